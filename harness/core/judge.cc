#include "harness/core/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "harness/core/pattern.h"

namespace assay::harness {
namespace {

double rms(std::span<const double> values) {
  double squares = 0;
  for (const double v : values) squares += v * v;
  return values.empty() ? 0 : std::sqrt(squares / static_cast<double>(values.size()));
}

// |got - want|, 0 where both are the same infinity; NaN for a NaN.
double error_of(double got, double want) { return got == want ? 0 : std::fabs(got - want); }

// Gate 1: the values that one rounding of the exact value gives, or of one that its functions moved within the limit.
struct Interval {
  double low, high;
};
Interval roundings(const Expectation& want, std::int64_t i) {
  return {round_to(want.dtype, want.oracle[i] - want.limit[i]), round_to(want.dtype, want.oracle[i] + want.limit[i])};
}

double allowed(const Expectation& want, std::int64_t i) {
  if (!want.exact) return want.limit[i];
  const Interval range = roundings(want, i);
  return std::max(std::fabs(range.high - want.oracle[i]), std::fabs(range.low - want.oracle[i]));
}

// Gate 3's yardstick: what the matched reference errs, and what the contract leaves open on top.
struct Baseline {
  double squares, maximum;
};
Baseline baseline(const Expectation& want, std::int64_t i, double scale) {
  const double matched = error_of(want.matched[i], want.oracle[i]) / scale, freedom = want.freedom[i] / scale;
  // A maximum over many elements reaches kSigmas standard deviations of a free error, which kMaxFactor multiplies.
  return {matched * matched + freedom * freedom, matched + kSigmas / kMaxFactor * freedom};
}

// No term contributes, as to a clamped step's gradient or to a state from before the first token: what is expected is 0,
// and all that the limit allows is underflow (where there is no limit, the matched reference has 0, too).
bool must_be_zero(const Expectation& want, std::int64_t i) {
  if (want.exact || want.oracle[i] != 0) return false;
  return want.relative_alone ? want.matched[i] == 0 : want.limit[i] < kTiny / kUnit;
}

}  // namespace

bool element_passes(const Expectation& want, std::int64_t i, double got) {
  if (std::isnan(got)) return false;
  if (want.relative_alone) return true;
  if (!want.exact) return error_of(got, want.oracle[i]) <= want.limit[i];
  const Interval range = roundings(want, i);
  return range.low <= got && got <= range.high;
}

bool noise_dominated(const Expectation& want) {
  return !want.exact && !want.relative_alone && rms(want.oracle) < kSigmas * rms(want.limit);
}

double matched_error(const Expectation& want) {
  double squares = 0;
  for (std::int64_t i = 0; i < want.size(); ++i) {
    const double e = error_of(want.matched[i], want.oracle[i]);
    squares += e * e;
  }
  const double scale = std::max(rms(want.oracle), rms(want.limit));
  return want.size() == 0 || scale == 0 ? 0 : std::sqrt(squares / static_cast<double>(want.size())) / scale;
}

bool tells_apart(const Expectation& want) {
  // A bfloat16 tensor of one order of magnitude holds some 2 signs x 2 binades x 128 values, however large it is.
  constexpr std::int64_t kMostOfBfloat16 = 512;
  std::vector<double> values;
  std::int64_t free = 0;
  for (std::int64_t i = 0; i < want.size(); ++i) {
    free += !must_be_zero(want, i);
    if (const double stored = round_to(want.dtype, want.oracle[i]); stored != 0) values.push_back(stored);
  }
  const auto nonzero = static_cast<std::int64_t>(values.size());
  std::sort(values.begin(), values.end());
  const std::int64_t distinct = std::unique(values.begin(), values.end()) - values.begin();
  const std::int64_t most = want.dtype == DType::float32 ? free : std::min(free, kMostOfBfloat16);
  return free > 0 && 2 * nonzero >= free && 2 * distinct >= most;
}

double telling_elements(const Expectation& want) {
  if (want.independent > 0) return want.independent;
  double squares = 0, fourth = 0;
  for (const double limit : want.limit) squares += limit * limit, fourth += limit * limit * limit * limit;
  return fourth == 0 || !std::isfinite(fourth) ? static_cast<double>(want.size()) : squares * squares / fourth;
}

bool is_small(const Expectation& want) {
  return want.size() < kRelativeGateElements || telling_elements(want) < kTellingElements;
}

TensorResult judge(const Expectation& want, std::span<const double> got) {
  TensorResult result;
  result.tensor = want.label();
  result.elements = want.size();
  result.gate = want.relative_alone ? "relative" : want.exact ? "bits" : "bound";
  result.headroom = std::numeric_limits<double>::infinity();
  result.noise_dominated = noise_dominated(want);

  std::vector<std::int64_t> failing;
  double worst = -1, squares = 0, maximum = 0;
  Baseline base{0, 0};
  for (std::int64_t i = 0; i < want.size(); ++i) {
    const bool passes = element_passes(want, i, got[i]);
    if (!passes) failing.push_back(i);
    const double error = error_of(got[i], want.oracle[i]);
    if (want.exact && passes) continue;
    const double limit = allowed(want, i);
    const double excess = std::isnan(error) ? HUGE_VAL : error == 0 ? 0 : limit == 0 ? HUGE_VAL : error / limit;
    // Of equally bad elements the first counts; a failing one before any that passes.
    if ((!passes && failing.size() == 1 && worst < HUGE_VAL) || excess > worst) {
      worst = std::max(excess, passes ? 0.0 : 1.0);
      result.worst_at = axis_position(i, want.shape, want.axes);
      result.got = got[i];
      result.wanted = want.oracle[i];
      result.limit = limit;
      result.headroom = excess == 0 ? std::numeric_limits<double>::infinity() : 1 / excess;
    }
    if (want.exact) continue;
    squares += error * error;
    maximum = std::max(maximum, error);
    const Baseline b = baseline(want, i, 1);
    base.squares += b.squares;
    base.maximum = std::max(base.maximum, b.maximum);
  }
  result.failing = static_cast<std::int64_t>(failing.size());
  if (!failing.empty()) {
    result.status = Status::failed;
    result.pattern = describe_pattern(failing, want.shape, want.axes);
    return result;
  }
  if (want.relative_alone) result.headroom = std::numeric_limits<double>::infinity();
  if (want.exact || result.noise_dominated || is_small(want)) return result;

  const auto ratio = [](double a, double b) { return a == 0 ? 0 : b == 0 ? HUGE_VAL : a / b; };
  result.rms_ratio = ratio(std::sqrt(squares), std::sqrt(base.squares));
  result.max_ratio = ratio(maximum, base.maximum);
  if (want.relative_alone) {
    const double worst_ratio = std::max(result.rms_ratio / kRmsFactor, result.max_ratio / kMaxFactor);
    result.headroom = worst_ratio == 0 ? std::numeric_limits<double>::infinity() : 1 / worst_ratio;
  }
  if (result.rms_ratio > kRmsFactor || result.max_ratio > kMaxFactor) {
    result.status = Status::failed;
    result.gate = "relative";
  }
  return result;
}

void Pool::add(const Expectation& want, std::span<const double> got) {
  ++cases;
  const std::int64_t before = elements;
  for (std::int64_t i = 0; i < want.size(); ++i) {
    const double limit = want.limit[i], error = error_of(got[i], want.oracle[i]);
    if (!(limit > 0) || !std::isfinite(limit) || std::isnan(error)) continue;
    const Baseline b = baseline(want, i, limit);
    ++elements;
    candidate_squares += error / limit * (error / limit);
    candidate_max = std::max(candidate_max, error / limit);
    baseline_squares += b.squares;
    baseline_max = std::max(baseline_max, b.maximum);
  }
  const auto added = static_cast<double>(elements - before);
  shares += want.independent > 0 ? added * added / want.independent : added;
}

TensorResult Pool::judge(const std::string& tensor) const {
  TensorResult result;
  result.tensor = tensor;
  result.elements = elements;
  result.gate = "relative";
  result.headroom = candidate_max > 0 ? 1 / candidate_max : std::numeric_limits<double>::infinity();
  const double independent = shares > 0 ? std::pow(static_cast<double>(elements), 2) / shares : 0;
  if (elements < kRelativeGateElements || independent < kTellingElements) return result;
  result.rms_ratio = baseline_squares > 0    ? std::sqrt(candidate_squares / baseline_squares)
                     : candidate_squares > 0 ? HUGE_VAL
                                             : 0;
  result.max_ratio = baseline_max > 0 ? candidate_max / baseline_max : candidate_max > 0 ? HUGE_VAL : 0;
  if (result.rms_ratio > kRmsFactor || result.max_ratio > kMaxFactor) result.status = Status::failed;
  return result;
}

}  // namespace assay::harness
