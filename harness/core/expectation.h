// What one output tensor should be, element by element, and how far it may be off.
#pragma once

#include <string>
#include <vector>

#include "harness/core/call.h"

namespace assay::harness {

struct Expectation {
  std::string tensor;
  DType dtype = DType::float32;
  Shape shape;
  std::vector<std::string> axes;  // the names of shape's axes

  std::vector<double> oracle;   // the value of exact arithmetic on the candidate's own inputs
  std::vector<double> limit;    // gate 2: |got - oracle| <= limit; contains half an ulp of the output
  std::vector<double> matched;  // the matched reference: the same equation with the model's roundings
  std::vector<double> freedom;  // gate 3: standard deviation of what the contract leaves open (order of sums, errors of
                                // functions), which a correct candidate may have and the matched reference has not

  // Gate 1, in place of the other two: every value before the final rounding is exact, so the output is the oracle
  // rounded once. `limit` is then what the documented errors of functions leave before that rounding, 0 without
  // functions: in float32 a few units, in bfloat16 no more than letting an exact tie go either way.
  bool exact = false;

  // A layer's output against that of the whole layer: gate 3 alone, since errors of the steps before are the inputs of
  // those that follow. `limit` then only says by what small tensors are pooled.
  bool relative_alone = false;
  // Of how many independent errors those of the elements are made, where one error may be in many of them; 0: each
  // element has its own. telling_elements().
  double independent = 0;
  std::string label() const { return relative_alone ? tensor + " (end to end)" : tensor; }

  std::int64_t size() const { return static_cast<std::int64_t>(oracle.size()); }
};

// How an error of unit roundoff u arises in float32: every derivation of a limit uses these.
constexpr double kUnit = 0x1p-24;   // half an ulp of 1 in float32
constexpr double kTiny = 0x1p-126;  // smallest normal float32: the absolute floor of one term
constexpr double kSigmas = 8;       // standard deviations that a limit allows a sum of roundings

}  // namespace assay::harness
