// The comparator, tested like a product: what must fail fails, at the gate that should see it, and what may pass
// passes.
#include "harness/core/judge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "harness/core/explain.h"
#include "harness/core/pattern.h"
#include "harness/core/random.h"

namespace assay::harness {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// bf16 values around 1; the limit is half an ulp, the matched reference rounds to nearest.
Expectation bf16_expectation(std::int64_t rows, std::int64_t width) {
  Expectation e{.tensor = "output.y", .dtype = DType::bfloat16, .shape = {rows, width}, .axes = {"rows", "width"}};
  const Random r(1, "judge");
  for (std::int64_t i = 0; i < rows * width; ++i) {
    const double v = r.normal(i);
    e.oracle.push_back(v);
    e.limit.push_back(0.5 * ulp(e.dtype, v) + 1e-6 * std::fabs(v));
    e.matched.push_back(round_to_bfloat16(v));
    e.freedom.push_back(1e-7 * std::fabs(v));
  }
  return e;
}
std::vector<double> rounded(const Expectation& e) {
  std::vector<double> got;
  for (const double v : e.oracle) got.push_back(round_to_bfloat16(v));
  return got;
}

// A layer's output end to end: no element has a limit, the tensor as a whole is held to the matched reference's error.
TEST(Judge, AsksOfALayersEndForTheRelativeGateAlone) {
  Expectation e = bf16_expectation(20, 40);
  e.relative_alone = true;
  std::vector<double> got = rounded(e);
  TensorResult r = judge(e, got);
  EXPECT_EQ(r.status, Status::passed);
  EXPECT_EQ(r.tensor, "output.y (end to end)");
  EXPECT_GT(r.headroom, 1);
  for (std::size_t i = 0; i < got.size(); ++i) got[i] = e.oracle[i] + 1.9 * (got[i] - e.oracle[i]);
  EXPECT_EQ(judge(e, got).status, Status::passed);
  for (std::size_t i = 0; i < got.size(); ++i) got[i] = e.oracle[i] + 1.5 * (got[i] - e.oracle[i]);
  r = judge(e, got);
  EXPECT_EQ(r.status, Status::failed);
  EXPECT_EQ(r.gate, "relative");
  EXPECT_EQ(r.failing, 0);
  EXPECT_LT(r.headroom, 1);
  got = rounded(e), got[7] = kNaN;
  EXPECT_EQ(judge(e, got).status, Status::failed);
}

TEST(Judge, PassesTheRoundedOracle) {
  const Expectation e = bf16_expectation(20, 40);
  const TensorResult r = judge(e, rounded(e));
  EXPECT_EQ(r.status, Status::passed);
  EXPECT_NEAR(r.rms_ratio, 1, 1e-3);
  EXPECT_NEAR(r.max_ratio, 1, 1e-3);
  EXPECT_GE(r.headroom, 1);
}

TEST(Judge, OneFlippedValueFailsAndIsNamed) {
  const Expectation e = bf16_expectation(20, 40);
  std::vector<double> got = rounded(e);
  got[7 * 40 + 13] += 2 * ulp(DType::bfloat16, got[7 * 40 + 13]);
  const TensorResult r = judge(e, got);
  EXPECT_EQ(r.status, Status::failed);
  EXPECT_EQ(r.gate, "bound");
  EXPECT_EQ(r.failing, 1);
  EXPECT_EQ(r.worst_at, "rows=7 width=13");
  EXPECT_EQ(r.pattern, "rows 7 only, width 13 only");
  EXPECT_NE(explain(r).find("output.y: 1 of 800 elements"), std::string::npos);
}

TEST(Judge, NaNFailsEverywhere) {
  for (const bool exact : {false, true}) {
    Expectation e = bf16_expectation(2, 3);
    e.exact = exact;
    std::vector<double> got = rounded(e);
    got[4] = kNaN;
    const TensorResult r = judge(e, got);
    EXPECT_EQ(r.status, Status::failed);
    EXPECT_EQ(r.worst_at, "rows=1 width=1");
    EXPECT_TRUE(std::isnan(r.got));
    EXPECT_NE(explain(r).find("NaN"), std::string::npos);
  }
}

TEST(Judge, InfinityPassesOnlyWhereItIsDue) {
  Expectation e = bf16_expectation(1, 2);
  e.oracle[0] = -HUGE_VAL;
  std::vector<double> got = {-HUGE_VAL, rounded(e)[1]};
  EXPECT_EQ(judge(e, got).status, Status::passed);
  got[0] = HUGE_VAL;
  EXPECT_EQ(judge(e, got).status, Status::failed);
  got = {-HUGE_VAL, HUGE_VAL};
  EXPECT_EQ(judge(e, got).status, Status::failed);
}

TEST(Judge, SwappedAxesAndStaleBuffersFail) {
  const Expectation e = bf16_expectation(20, 20);
  const std::vector<double> good = rounded(e);
  std::vector<double> swapped(400);
  for (int r = 0; r < 20; ++r)
    for (int c = 0; c < 20; ++c) swapped[r * 20 + c] = good[c * 20 + r];
  EXPECT_EQ(judge(e, swapped).status, Status::failed);
  std::vector<double> stale = good;
  for (int c = 0; c < 20; ++c) stale[5 * 20 + c] = good[4 * 20 + c];  // row 5 still holds row 4
  const TensorResult r = judge(e, stale);
  EXPECT_EQ(r.status, Status::failed);
  EXPECT_EQ(r.pattern.substr(0, 11), "rows 5 only");
}

TEST(Judge, TruncationFailsTheBound) {
  const Expectation e = bf16_expectation(20, 40);
  std::vector<double> got;
  for (const double v : e.oracle) {
    const double u = ulp(DType::bfloat16, v);
    got.push_back(std::trunc(v / u) * u);
  }
  EXPECT_EQ(judge(e, got).gate, "bound");
  EXPECT_EQ(judge(e, got).status, Status::failed);
}

// Each element within its limit, all of them much worse than the matched reference: only the relative gate sees it.
TEST(Judge, RelativeGateSeesWhatTheBoundForgives) {
  Expectation e = bf16_expectation(20, 40);
  e.dtype = DType::float32;
  std::vector<double> got = e.oracle;
  for (std::size_t i = 0; i < got.size(); ++i) {
    e.limit[i] = 100 * kUnit;
    e.freedom[i] = 0.1 * kUnit;
    e.matched[i] = e.oracle[i] + (i % 2 ? kUnit : -kUnit);
    got[i] += (i % 2 ? 20 : -20) * kUnit;
  }
  const TensorResult r = judge(e, got);
  EXPECT_EQ(r.status, Status::failed);
  EXPECT_EQ(r.gate, "relative");
  EXPECT_EQ(r.failing, 0);
  EXPECT_NEAR(r.rms_ratio, 20, 1);
  for (std::size_t i = 0; i < got.size(); ++i) got[i] = e.oracle[i] + (i % 2 ? 1.5 : -1.5) * kUnit;
  EXPECT_EQ(judge(e, got).status, Status::passed);
}

// What a candidate gives that errs twenty times as much as the matched reference, in float and far within its limits.
std::vector<double> twenty_times_the_matched_error(Expectation& e) {
  std::vector<double> got = e.oracle;
  for (std::size_t i = 0; i < got.size(); ++i) {
    e.limit[i] = 100 * kUnit;
    e.freedom[i] = 0;
    e.matched[i] = e.oracle[i] + kUnit;
    got[i] += 20 * kUnit;
  }
  return got;
}

TEST(Judge, SmallTensorsArePooled) {
  Expectation e = bf16_expectation(4, 8);
  e.dtype = DType::float32;
  const std::vector<double> got = twenty_times_the_matched_error(e);
  EXPECT_EQ(judge(e, got).status, Status::passed);  // 32 elements say nothing on their own
  Pool pool;
  for (int k = 0; k < 7; ++k) pool.add(e, got);
  EXPECT_EQ(pool.judge("output.y").status, Status::passed);  // 224
  pool.add(e, got);
  EXPECT_EQ(pool.judge("output.y").status, Status::failed);  // 256
  EXPECT_NEAR(pool.judge("output.y").rms_ratio, 20, 1e-9);
}

// 1,024 elements, the errors of all but eight of no account: rms and maximum are those of eight draws.
TEST(Judge, FewLargeElementsAreASmallTensor) {
  Expectation e = bf16_expectation(32, 32);
  e.dtype = DType::float32;
  std::vector<double> got = e.oracle;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double unit = (i % 128 == 0 ? 0x1p20 : 1) * kUnit;
    e.limit[i] = 100 * unit;
    e.freedom[i] = 0;
    e.matched[i] = e.oracle[i] + unit;
    got[i] += (i % 128 == 0 ? 4 : 1) * unit;
  }
  EXPECT_NEAR(telling_elements(e), 8, 1e-3);
  EXPECT_TRUE(is_small(e));
  EXPECT_EQ(judge(e, got).status, Status::passed);
  Pool pool;
  pool.add(e, got);
  EXPECT_EQ(pool.judge("output.y").status, Status::failed);  // four times at most
  for (std::size_t i = 0; i < got.size(); ++i) got[i] = e.oracle[i] + (i % 128 == 0 ? 1 : 20) * kUnit;
  pool = {};
  pool.add(e, got);
  EXPECT_EQ(pool.judge("output.y").status, Status::failed);  // seen, though the eight hide it
}

// 1,024 elements that share eight errors say as much as eight elements, alone and pooled.
TEST(Judge, SharedErrorsCountOnce) {
  Expectation e = bf16_expectation(32, 32);
  e.dtype = DType::float32;
  e.independent = 8;
  const std::vector<double> got = twenty_times_the_matched_error(e);
  EXPECT_TRUE(is_small(e));
  EXPECT_EQ(judge(e, got).status, Status::passed);
  Pool pool;
  for (int k = 0; k < 7; ++k) pool.add(e, got);
  EXPECT_EQ(pool.judge("output.y").status, Status::passed);  // 56
  pool.add(e, got);
  EXPECT_EQ(pool.judge("output.y").status, Status::failed);  // 64
  e.independent = 64;
  EXPECT_EQ(judge(e, got).status, Status::failed);
}

TEST(Judge, ExactFillWantsTheExactBits) {
  Expectation e{.tensor = "output.y", .dtype = DType::bfloat16, .shape = {3}, .axes = {"width"}};
  e.oracle = {3, 1 + 0x1p-8, 5};  // the second is a tie
  e.limit = {0, 0, 0};
  e.exact = true;
  EXPECT_EQ(judge(e, std::vector<double>{3, 1, 5}).status, Status::passed);
  EXPECT_EQ(judge(e, std::vector<double>{3, 1 + 0x1p-7, 5}).status, Status::failed);
  e.limit[1] = 1e-6;  // a function's documented error: the tie may go either way
  EXPECT_EQ(judge(e, std::vector<double>{3, 1 + 0x1p-7, 5}).status, Status::passed);
  EXPECT_EQ(judge(e, std::vector<double>{3, 1 - 0x1p-8, 5}).status, Status::failed);
  const TensorResult r = judge(e, std::vector<double>{3, 1, 5 + 0x1p-5});
  EXPECT_EQ(r.gate, "bits");
  EXPECT_EQ(r.worst_at, "width=2");
}

TEST(Judge, NoiseDominatedTensorsAreJudgedByTheirLimitAlone) {
  Expectation e = bf16_expectation(20, 40);
  for (std::size_t i = 0; i < e.oracle.size(); ++i)
    e.oracle[i] = 1e-9, e.limit[i] = 1e-3, e.matched[i] = 1e-9, e.freedom[i] = 0;
  std::vector<double> got(e.oracle.size(), 5e-4);
  const TensorResult r = judge(e, got);
  EXPECT_TRUE(r.noise_dominated);
  EXPECT_EQ(r.status, Status::passed);
  got[3] = 2e-3;
  EXPECT_EQ(judge(e, got).status, Status::failed);
}

TEST(Judge, TellsApartWantsDistinctValues) {
  Expectation e = bf16_expectation(10, 10);
  EXPECT_TRUE(tells_apart(e));
  for (std::size_t i = 0; i < 60; ++i) e.oracle[i] = 0;
  EXPECT_FALSE(tells_apart(e));
  for (std::size_t i = 0; i < 60; ++i) e.limit[i] = kTiny;  // nothing contributes there
  EXPECT_TRUE(tells_apart(e));
  for (std::size_t i = 60; i < 100; ++i) e.oracle[i] = 0, e.limit[i] = kTiny;
  EXPECT_FALSE(tells_apart(e)) << "zeros alone tell nothing";
  for (double& v : e.oracle) v = 2;
  EXPECT_FALSE(tells_apart(e));
}

TEST(Pattern, SaysWhereInWords) {
  const Shape shape = {4, 16};
  const std::vector<std::string> axes = {"rows", "width"};
  const auto describe = [&](auto&& wanted) {
    std::vector<std::int64_t> failing;
    for (std::int64_t i = 0; i < 64; ++i)
      if (wanted(i / 16, i % 16)) failing.push_back(i);
    return describe_pattern(failing, shape, axes);
  };
  EXPECT_EQ(describe([](auto, auto) { return true; }), "all elements");
  EXPECT_EQ(describe([](auto r, auto) { return r == 3; }), "the last rows (3) only");
  EXPECT_EQ(describe([](auto, auto c) { return c == 15; }), "the last width (15) only");
  EXPECT_EQ(describe([](auto, auto c) { return c % 8 == 7; }), "every 8th width, from 7");
  EXPECT_EQ(describe([](auto, auto c) { return c % 4 == 1; }), "every 4th width, from 1");
  EXPECT_EQ(describe([](auto, auto c) { return c >= 13; }), "the last 3 of 16 width (from 13)");
  EXPECT_EQ(describe([](auto r, auto c) { return r == 1 && c < 4; }), "rows 1 only, the first 4 of 16 width");
}

TEST(Explain, WholeTensorGatesClaimNothingAboutElements) {
  TensorResult r;
  r.tensor = "output.y";
  r.status = Status::failed;
  r.elements = 300;
  r.worst_at = "0";
  r.got = -1.5, r.wanted = 1.5;
  r.gate = "relative", r.rms_ratio = 3, r.limit = 5e-6;  // relative L2
  EXPECT_NE(explain(r).find("relative L2 is 1.5e-05; want at most 5e-06"), std::string::npos) << explain(r);
  EXPECT_NE(explain(r).find("Likely: the sign is wrong"), std::string::npos) << explain(r);
  r.max_ratio = 4;  // gate 3, after gate 2 held
  EXPECT_NE(explain(r).find("every element is within its limit"), std::string::npos) << explain(r);
  r.max_ratio = 0, r.gate = "matched", r.limit = 2;
  EXPECT_NE(explain(r).find("want 0.5 to 2"), std::string::npos) << explain(r);
  EXPECT_EQ(explain(r).find("every element"), std::string::npos) << explain(r);
  r.rms_ratio = 0.25;
  EXPECT_NE(explain(r).find("fewer roundings"), std::string::npos) << explain(r);
  r.rms_ratio = 11, r.limit = 8;  // few elements
  EXPECT_NE(explain(r).find("11 standard deviations; want at most 8"), std::string::npos) << explain(r);
}

}  // namespace
}  // namespace assay::harness
