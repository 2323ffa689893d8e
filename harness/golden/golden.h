// The reference against recorded fixtures: which layers it knows, and how one of them is judged.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/result.h"
#include "harness/io/fixture.h"

namespace assay::harness {

// One expected tensor of a fixture beside what the reference says.
struct GoldenTensor {
  std::string name;
  DType dtype = DType::float32;
  DType model = DType::float32;  // what the model computes in, whatever this tensor is stored in
  Shape shape;
  std::vector<double> recorded, oracle, matched;
  std::vector<double> limit;  // per element, if the layer derives one (gate 2); empty: not judged by it
  double terms_rms = 0;       // rms of the sums of absolute terms: the scale of a value that cancels; 0: unknown
  double tolerance = 5e-6;    // relative L2 for float32; 1e-5 for whole models
  bool exact = false;         // indices, constants, random draws: recorded == oracle, bit for bit
  double exact_ulps = 0;      // of an exact tensor: how many ulp it may differ by all the same
};

// What the reference itself would record: the matched policy's values where the model computes in bfloat16, else the
// oracle's; not rounded to the dtype yet.
const std::vector<double>& own_values(const GoldenTensor& tensor);

// All of a fixture, and what the file alone does not decide: a word about choices that were taken from its numbers.
struct GoldenEvaluation {
  std::vector<GoldenTensor> tensors;
  std::string note;
};

// A layer's fixtures: throws FixtureError for tensors, shapes, attributes or configs that do not fit it.
struct GoldenLayer {
  std::string layer;  // as in the fixture
  std::function<GoldenEvaluation(const Fixture&)> evaluate;
};
const std::vector<GoldenLayer>& golden_layers();
const GoldenLayer& golden_layer(const Fixture& fixture);  // throws FixtureError if there is none

// float32: relative L2 of recorded - oracle within the tolerance or twice that of matched - oracle (eight times on fewer than
// 256 elements), the denominator max(rms(oracle), 2^-10 terms_rms);
// bfloat16, stored or computed in: rms(recorded - oracle) / rms(matched - oracle) in [1/2, 2] on 256 elements and more,
// on fewer 8 standard deviations at most; both also within `limit`, if there is one. A tensor whose true value is
// rounding noise is judged by its limit alone.
TensorResult judge_golden(const GoldenTensor& tensor);

double rms_difference(const std::vector<double>& a, const std::vector<double>& b);
double rms(const std::vector<double>& a);

// Reads and judges one file. An unreadable file or unknown layer is a FAILED case whose message is the error.
CaseResult check_fixture(const std::filesystem::path& file);
CaseResult check_fixture(const Fixture& fixture);

}  // namespace assay::harness
