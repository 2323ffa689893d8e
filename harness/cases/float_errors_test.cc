// Functions that err as far as CUDA documents stay inside the limits, and need them.
#include "harness/cases/float_errors.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace assay::harness {
namespace {

// The float `count` ulp above (below: negative) the one nearest to `exact`.
float off_by(double exact, double count) {
  const auto nearest = static_cast<float>(exact);
  return static_cast<float>(nearest + count * ulp(DType::float32, nearest));
}
assay_contract fast() {
  assay_contract contract{};
  contract.functions = ASSAY_FUNCTIONS_FAST;
  contract.softplus = ASSAY_SOFTPLUS_NAIVE;
  return contract;
}
constexpr float kFrom = -80, kTo = 80, kStep = 0.0137f;

TEST(FloatErrors, AnExponentialOfTwoUlpFromTheNearestFloatIsInside) {
  double worst = 0;
  for (float x = kFrom; x < kTo; x += kStep) {
    const double exact = std::exp(static_cast<double>(x));
    for (const double count : {-2.0, 2.0}) {
      const double error = std::fabs(off_by(exact, count) / exact - 1);
      ASSERT_LE(error, exp_error(x, assay_contract{})) << x;
      worst = std::max(worst, error);
    }
  }
  EXPECT_GT(worst, 4.5 * kUnit);  // 2 ulp are not 4 u: the nearest float is off, too
}

TEST(FloatErrors, AFastExponentialIsInside) {
  for (float x = kFrom; x < kTo; x += kStep) {
    const double exact = std::exp(static_cast<double>(x)), count = 2 + std::floor(std::fabs(1.173 * x));
    for (const double sign : {-1.0, 1.0}) {
      ASSERT_LE(std::fabs(off_by(exact, sign * count) / exact - 1), exp_error(x, fast())) << x;
    }
  }
}

TEST(FloatErrors, LogarithmsOfASoftplusAreInside) {
  for (float x = kFrom; x < 20; x += kStep) {
    const double exponential = std::exp(static_cast<double>(x)), exact = std::log1p(exponential);
    const double inside = 1 + exponential;
    for (const double sign : {-1.0, 1.0}) {
      ASSERT_LE(std::fabs(off_by(exact, sign) - exact), log_error(exact, assay_contract{}) + kTiny) << x;
      const double fast_log = inside <= 2 ? exact + sign * std::exp2(-21.41) : off_by(exact, 3 * sign);
      ASSERT_LE(std::fabs(fast_log - exact), log_error(exact, fast()) + 1e-15) << x;
    }
  }
}

TEST(FloatErrors, SiluOfAnExponentialAndADivisionOfTwoUlpIsInside) {
  double largest_part = 0;
  for (float z = kFrom; z < kTo; z += kStep) {
    const Gate gate = gate_at(z, kLimit, assay_contract{});
    for (const double exp_count : {-2.0, 2.0}) {
      for (const double division_count : {-2.0, 2.0}) {
        const float denominator = 1 + off_by(std::exp(-static_cast<double>(z)), exp_count);
        const float silu = z * off_by(1 / static_cast<double>(denominator), division_count);
        const double error = std::fabs(silu - gate.silu), limit = gate.silu_error * std::fabs(gate.silu) + kSiluFloor;
        ASSERT_LE(error, limit) << z;
        largest_part = std::max(largest_part, error / limit);
      }
    }
  }
  EXPECT_GT(largest_part, 0.5);  // and the limit is no more than twice that
}

}  // namespace
}  // namespace assay::harness
