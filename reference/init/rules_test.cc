#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "reference/init/a_log.h"
#include "reference/init/dt_bias.h"
#include "reference/init/kaiming_uniform.h"
#include "reference/init/residual_rescale.h"

namespace assay::reference {
namespace {

constexpr TimeStepRange kPublished = {.min = 1e-3, .max = 0.1, .floor = 1e-4};

TEST(KaimingUniform, WeightAndBiasBoundsAgreeInFloat32) {
  for (int fan = 1; fan < 40000; ++fan) {
    const float bound = static_cast<float>(kaiming_weight_bound(fan));
    EXPECT_EQ(bound, static_cast<float>(kaiming_bias_bound(fan))) << fan;
    EXPECT_NEAR(bound * std::sqrt(static_cast<double>(fan)), 1, 1e-7) << fan;
  }
}

TEST(DtBias, SoftplusOfItIsTheStep) {
  for (int i = 0; i <= 1000; ++i) {
    const float u = static_cast<float>(i) / 1024;
    const double dt = std::exp(std::log(1e-3) + u * (std::log(0.1) - std::log(1e-3)));
    const double got = std::log1p(std::exp(double{dt_bias_from_uniform(u, kPublished)}));
    // Relative error of the step: 8 ulp of |ln dt| < 7 times 2^-24 in the exponent, and the roundings of the inverse.
    EXPECT_NEAR(got / dt, 1, 4e-6) << u;
  }
}

TEST(DtBias, FloorHoldsSmallSteps) {
  const TimeStepRange range = {.min = 1e-3, .max = 0.1, .floor = 0.01};
  EXPECT_EQ(dt_bias_from_uniform(0, range), dt_bias_from_uniform(0.25f, range));
  EXPECT_NEAR(std::log1p(std::exp(double{dt_bias_from_uniform(0, range)})), 0.01, 1e-7);
  EXPECT_GT(dt_bias_from_uniform(0.75f, range), dt_bias_from_uniform(0.25f, range));
}

TEST(ALog, IsTheLogarithmOfTheHeadsNumber) {
  EXPECT_EQ(a_log(0), 0.0f);
  for (int head = 1; head < 256; ++head) EXPECT_EQ(a_log(head), static_cast<float>(std::log(head + 1.0))) << head;
}

TEST(ResidualRescale, DividesByTheSquareRootOfTheDepth) {
  EXPECT_EQ(rescale_residual(3.0f, 4, ModelDtype::float32, Device::cpu), 1.5f);
  EXPECT_EQ(rescale_residual(1.0f, 52, ModelDtype::bfloat16, Device::cpu), round_to_bfloat16(1 / std::sqrt(52.0f)));
  // A GPU multiplies by the reciprocal: sometimes another last bit.
  int differ = 0;
  for (int i = 1; i < 1000; ++i) {
    const float w = 0.001f * i, cpu = rescale_residual(w, 52, ModelDtype::float32, Device::cpu);
    const float cuda = rescale_residual(w, 52, ModelDtype::float32, Device::cuda);
    EXPECT_NEAR(cuda, cpu, 0x1p-23f * cpu);
    differ += cuda != cpu;
  }
  EXPECT_GT(differ, 0);
}

}  // namespace
}  // namespace assay::reference
