// The device helpers that families share: loads and stores, elementary functions, column sums.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "cuda/common/column_sum.h"
#include "cuda/common/math.cuh"
#include "cuda/common/testing.h"
#include "cuda/common/vec.cuh"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

TEST(Vec, LoadsWhatIsThereAndStoresRoundedToNearestEven) {
  alignas(16) const bf16 source[8] = {bf16(1.0f), bf16(-2.5f), bf16(0.0f), bf16(3.0f),
                                      bf16(4.0f), bf16(5.0f),  bf16(6.0f), bf16(7.0f)};
  float values[8];
  load(source, values);
  EXPECT_EQ(values[1], -2.5f);
  EXPECT_EQ(values[7], 7.0f);

  alignas(16) bf16 stored[8];
  values[0] = 1.0f + 0x1p-8f;  // a tie: 1 is even
  values[1] = 1.0f + 0x3p-8f;  // a tie: 1 + 2^-6 is even
  values[2] = 1.0f + 0x1p-8f + 0x1p-20f;
  store(stored, values);
  EXPECT_EQ(to_float(stored[0]), 1.0f);
  EXPECT_EQ(to_float(stored[1]), 1.0f + 0x1p-6f);
  EXPECT_EQ(to_float(stored[2]), 1.0f + 0x1p-7f);
}

// Both parts: e^-|x| within 2 ulp (documented), then a sum, a quotient and a product rounded once each: the first error
// counts in full at most, so 2 + 2 ulp of e^-|x| side, each ulp at most 2^-23 relative.
constexpr double kSigmoidError = 5 * 0x1p-23;

TEST(Sigmoid, KeepsItsDigitsOnBothSides) {
  for (float x = -87.0f; x < 87.0f; x += 0.37f) {
    const Sigmoid sigmoid(x);
    const double value = 1 / (1 + std::exp(-static_cast<double>(x))),
                 complement = 1 / (1 + std::exp(static_cast<double>(x)));
    EXPECT_NEAR(sigmoid.value / value, 1, kSigmoidError) << x;
    EXPECT_NEAR(sigmoid.complement / complement, 1, kSigmoidError) << x;
  }
}

TEST(Silu, IsExactWhereItSaturates) {
  EXPECT_EQ(silu(0.0f), 0.0f);
  EXPECT_EQ(silu(18.0f), 18.0f);
  EXPECT_EQ(silu(3e38f), 3e38f);
  for (const float x : {-104.0f, -200.0f, -3e38f}) {
    EXPECT_EQ(silu(x), 0.0f) << x;
    EXPECT_EQ(silu_derivative(x, Sigmoid(x)), 0.0f) << x;
  }
  EXPECT_EQ(silu_derivative(0.0f, Sigmoid(0.0f)), 0.5f);
  EXPECT_EQ(silu_derivative(3e38f, Sigmoid(3e38f)), 1.0f);
}

TEST(Silu, FallsToZeroThroughTheDenormals) {
  for (const float x : {-88.8f, -90.0f, -95.0f, -100.0f}) {  // where 1 / (1 + e^-x) as written is 1 / inf
    const double want = x / (1 + std::exp(-static_cast<double>(x)));
    EXPECT_NEAR(silu(x), want, std::abs(want) * kSigmoidError - x * 2 * 0x1p-149) << x;
  }
}

TEST(ReciprocalRms, PutsEpsUnderTheRoot) {
  EXPECT_EQ(reciprocal_rms(15.0f * 4, 4, 1.0f), 0.25f);
  EXPECT_EQ(reciprocal_rms(0.0f, 7, 0x1p-20f), 1024.0f);
}

class ColumnSum : public testing::TestWithParam<std::pair<int, int>> {};

TEST_P(ColumnSum, IsExactForSmallIntegers) {
  const auto [count, width] = GetParam();
  std::vector<float> partials(static_cast<std::size_t>(count * width)), want(static_cast<std::size_t>(width));
  for (int row = 0; row < count; ++row) {
    for (int column = 0; column < width; ++column) {
      const auto value = static_cast<float>((row * 7 + column * 13) % 31 - 15);
      partials[static_cast<std::size_t>(row * width + column)] = value;
      want[static_cast<std::size_t>(column)] += value;
    }
  }
  const TestBuffer<float> in(partials), out(want.size());
  column_sum(in.data(), count, width, out.data(), nullptr);
  EXPECT_EQ(out.download(), want);

  const TestBuffer<bf16> rounded(want.size());
  column_sum(in.data(), count, width, rounded.data(), nullptr);
  const std::vector<bf16> got = rounded.download();
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_EQ(to_float(got[i]), to_float(from_float<bf16>(want[i])));
}

INSTANTIATE_TEST_SUITE_P(Sizes, ColumnSum,
                         testing::Values(std::pair{0, 5}, std::pair{1, 1}, std::pair{2, 33}, std::pair{3, 31},
                                         std::pair{4, 32}, std::pair{5, 64}, std::pair{67, 97}, std::pair{1024, 3}));

}  // namespace
}  // namespace assay::gpu
