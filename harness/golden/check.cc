#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "harness/core/explain.h"
#include "harness/core/judge.h"
#include "harness/core/pattern.h"
#include "harness/golden/golden.h"
#include "harness/golden/recipe_golden.h"
#include "harness/verify/run.h"

namespace assay::harness {
namespace {

constexpr double kTermsScale = 0x1p-10;              // relative measures divide by max(rms(oracle), terms 2^-10)
constexpr double kLeastRatio = 0.5, kMostRatio = 2;  // a matched policy that rounds too little or too much fails
constexpr double kBfloat16Unit = 0x1p-9;             // half an ulp of 1: every stored value has this error at least

TensorResult judge_exact(const GoldenTensor& t, TensorResult result) {
  Expectation want{.tensor = t.name,
                   .dtype = t.dtype,
                   .shape = t.shape,
                   .oracle = t.oracle,
                   .limit = std::vector<double>(t.oracle.size())};
  for (std::size_t i = 0; i < t.oracle.size(); ++i)
    want.limit[i] = t.exact_ulps == 0 ? 0 : t.exact_ulps * ulp(t.dtype, t.oracle[i]);
  want.matched = t.oracle;
  want.freedom = want.limit;
  want.exact = t.exact_ulps == 0;
  TensorResult judged = judge(want, t.recorded);
  result = judged;
  result.rms_ratio = result.max_ratio = 0;
  return result;
}

}  // namespace

double rms_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] != b[i]) squares += (a[i] - b[i]) * (a[i] - b[i]);
  return a.empty() ? 0 : std::sqrt(squares / static_cast<double>(a.size()));
}
double rms(const std::vector<double>& a) { return rms_difference(a, std::vector<double>(a.size())); }

const std::vector<double>& own_values(const GoldenTensor& t) {
  const bool in_bfloat16 = t.dtype == DType::bfloat16 || t.model == DType::bfloat16;
  return in_bfloat16 && !t.exact ? t.matched : t.oracle;
}

TensorResult judge_golden(const GoldenTensor& t) {
  TensorResult result;
  result.tensor = t.name;
  result.elements = static_cast<std::int64_t>(t.recorded.size());
  result.headroom = std::numeric_limits<double>::infinity();
  if (t.oracle.size() != t.recorded.size() || t.matched.size() != t.recorded.size())
    throw std::logic_error(fmt::format("judge_golden: {} has {} recorded, {} oracle, {} matched values", t.name,
                                       t.recorded.size(), t.oracle.size(), t.matched.size()));
  if (t.exact) return judge_exact(t, result);
  bool noise = false;
  if (!t.limit.empty()) {
    Expectation want{.tensor = t.name,
                     .dtype = t.dtype,
                     .shape = t.shape,
                     .oracle = t.oracle,
                     .limit = t.limit,
                     .matched = t.matched,
                     .freedom = std::vector<double>(t.oracle.size(), HUGE_VAL)};
    noise = noise_dominated(want);
    result = judge(want, t.recorded);
    result.rms_ratio = result.max_ratio = 0;
    if (result.status != Status::passed || noise) return result;
  }
  const double scale = std::max(rms(t.oracle), kTermsScale * t.terms_rms), error = rms_difference(t.recorded, t.oracle);
  const auto worst = [&] {
    std::int64_t at = 0;
    for (std::int64_t i = 1; i < result.elements; ++i)
      if (!(std::fabs(t.recorded[i] - t.oracle[i]) <= std::fabs(t.recorded[at] - t.oracle[at]))) at = i;
    result.worst_at = axis_position(at, t.shape, {});
    result.got = t.recorded[at];
    result.wanted = t.oracle[at];
  };
  const double matched = rms_difference(t.matched, t.oracle);
  const auto fail = [&] {
    result.status = Status::failed;
    worst();
  };
  // A float32 tensor of a bfloat16 model that the matched policy gets to float32's accuracy has met no rounding of the
  // model. (One element alone may be right by luck.)
  const bool unrounded = result.elements > 1 && matched <= t.tolerance * scale;
  if (t.dtype != DType::bfloat16 && (t.model != DType::bfloat16 || unrounded)) {
    result.gate = "relative";
    // Where values cancel float32 itself does not reach the tolerance: a recording may then err as much as the matched
    // reference does, and as much again. The error of few elements is a single draw: theirs by eight deviations.
    const double multiple = result.elements < kRelativeGateElements ? kSigmas : kMostRatio;
    result.limit = scale > 0 ? std::max(t.tolerance, multiple * matched / scale) : t.tolerance;
    result.rms_ratio = scale > 0 ? error / scale / result.limit : error > 0 ? HUGE_VAL : 0;
    if (result.elements > 0 && !(result.rms_ratio <= 1)) fail();
    if (result.rms_ratio > 0) result.headroom = std::min(result.headroom, 1 / result.rms_ratio);
    return result;
  }
  result.gate = "matched";
  if (result.elements < kRelativeGateElements) {
    // Too few elements for a ratio of two errors. The standard deviation of one: what the matched policy errs by, and
    // one rounding at least, since that error may be small by luck.
    const double deviation = std::hypot(matched, kBfloat16Unit * scale);
    result.limit = kSigmas;
    result.rms_ratio = deviation > 0 ? error / deviation : error > 0 ? HUGE_VAL : 0;
    result.headroom = result.rms_ratio > 0 ? kSigmas / result.rms_ratio : result.headroom;
    if (!(result.rms_ratio <= kSigmas)) fail();
    return result;
  }
  result.rms_ratio = matched > 0 ? error / matched : error > 0 ? HUGE_VAL : 1;
  result.limit = kMostRatio;
  result.headroom = std::min(kMostRatio / result.rms_ratio, result.rms_ratio / kLeastRatio);
  if (!(result.rms_ratio >= kLeastRatio && result.rms_ratio <= kMostRatio)) fail();
  return result;
}

CaseResult check_fixture(const Fixture& fixture) {
  CaseResult result;
  result.line = fixture.file.string();
  result.variant = "reference";
  result.repro = "assay golden check " + fixture.file.string();
  result.operation = fixture.layer + "/" + fixture.path;
  const auto begin = std::chrono::steady_clock::now();
  try {
    const GoldenEvaluation evaluation = golden_layer(fixture).evaluate(fixture);
    result.contract = evaluation.note;
    for (const GoldenTensor& t : evaluation.tensors) {
      if (result.dtype.empty() || t.dtype == DType::bfloat16) result.dtype = short_name(t.dtype);
      result.tensors.push_back(judge_golden(t));
      if (result.tensors.back().status == Status::failed) {
        result.status = Status::failed;
        result.message += (result.message.empty() ? "" : "\n") + explain(result.tensors.back());
      }
    }
    if (result.tensors.empty())
      throw FixtureError(fixture.file.string() + ": /tensors: nothing to compare; want an output or a gradient");
  } catch (const std::exception& e) {
    result.status = Status::failed;
    result.message = e.what();
  }
  result.reference_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

CaseResult check_fixture(const std::filesystem::path& file) {
  try {
    const GoldenFile golden = read_golden(file);
    if (const auto* recipe = std::get_if<Recipe>(&golden)) return check_recipe(*recipe);
    return check_fixture(std::get<Fixture>(golden));
  } catch (const std::exception& e) {
    CaseResult result;
    result.line = file.string();
    result.variant = "reference";
    result.repro = "assay golden check " + file.string();
    result.status = Status::failed;
    result.message = e.what();
    return result;
  }
}

RunResult golden_check(const std::vector<std::filesystem::path>& fixtures,
                       const std::function<void(const CaseResult&, std::size_t, std::size_t)>& progress) {
  RunResult run;
  run.subject = "reference";
  run.target = "cpu:reference";
  run.candidate = "reference (Eigen), double and matched policy";
  const auto begin = std::chrono::steady_clock::now();
  for (const auto& file : fixtures) {
    run.cases.push_back(check_fixture(file));
    if (!run.cases.back().contract.empty()) run.notes.push_back(file.string() + ": " + run.cases.back().contract);
    if (progress) progress(run.cases.back(), run.cases.size(), fixtures.size());
  }
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return run;
}

}  // namespace assay::harness
