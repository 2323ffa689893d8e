// The gates: one output tensor of a candidate against its expectation.
//
//  written   every element was written and is no NaN
//  bits      fill `integer`: the exact value rounded once
//  bound     |got - oracle| <= limit, per element
//  relative  rms(got - oracle) <= 2 baseline rms and max |got - oracle| <= 3 baseline max, where the baseline is the
//            matched reference's error and the freedom of the contract; on 256 elements and more
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "harness/core/expectation.h"
#include "harness/core/result.h"

namespace assay::harness {

constexpr std::int64_t kRelativeGateElements = 256, kTellingElements = 64;
constexpr double kRmsFactor = 2, kMaxFactor = 3;

TensorResult judge(const Expectation& want, std::span<const double> got);

// Whether the element `i` alone would pass the gates that look at single elements (written, bits, bound).
bool element_passes(const Expectation& want, std::int64_t i, double got);

// True where the expected values are rounding noise: rms(oracle) < 8 rms(limit). Gate 2 alone judges such a tensor.
bool noise_dominated(const Expectation& want);

// rms(matched - oracle) / max(rms(oracle), rms(limit)): above 10 % the case says little about a candidate.
double matched_error(const Expectation& want);

// At least half of the expected values, or of the most that the dtype allows, are distinct and non-zero; those that the
// operation leaves no value but 0 do not count.
bool tells_apart(const Expectation& want);

// Of how many elements the errors decide rms and maximum, by their limits l: (sum l^2)^2 / sum l^4, all of them where
// limits are alike. Where elements share errors, what the expectation says.
double telling_elements(const Expectation& want);

// Too small for the relative gate: rms and maximum of few rounding errors, the candidate's and the matched reference's,
// differ by more than its factors by chance. So do those of a few large values among any number of small ones. (Of 64
// uniform errors the rms scatters by 6 %, even if four each share one it is 11 %.)
bool is_small(const Expectation& want);

// Small tensors of one name, pooled over a run, each error divided by its element's limit.
struct Pool {
  std::int64_t elements = 0, cases = 0;
  double shares = 0;  // sum over tensors of elements^2 / independent errors
  double candidate_squares = 0, baseline_squares = 0, candidate_max = 0, baseline_max = 0;
  void add(const Expectation& want, std::span<const double> got);
  // Passed and ungated while it holds fewer than 256 elements, or fewer than 64 independent errors.
  TensorResult judge(const std::string& tensor) const;
};

}  // namespace assay::harness
