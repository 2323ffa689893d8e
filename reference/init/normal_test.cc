#include "reference/init/normal.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numbers>
#include <random>

namespace assay::reference {
namespace {

// Cephes promises about an ulp; the sine and cosine, an absolute one near their zeros.
TEST(Cephes, AreTheFunctions) {
  std::mt19937 engine(1);
  for (int i = 0; i < 100000; ++i) {
    const float u = static_cast<float>((engine() & 0xFFFFFF) + 1) * 0x1p-24f, angle = 6.2831855f * u;
    EXPECT_NEAR(cephes_log(u), std::log(double{u}), 1.5 * 0x1p-24 * std::max(1.0, -std::log(double{u}))) << u;
    const auto [sin, cos] = cephes_sincos(angle);
    EXPECT_NEAR(sin, std::sin(double{angle}), 1.5 * 0x1p-24) << angle;
    EXPECT_NEAR(cos, std::cos(double{angle}), 1.5 * 0x1p-24) << angle;
  }
  EXPECT_EQ(cephes_log(1.0f), 0.0f);
  EXPECT_EQ(cephes_sincos(0.0f).cos, 1.0f);
}

// The pure rule against its equation in double: both halves of a block, mean and std.
TEST(NormalBlock, IsBoxMuller) {
  std::array<float, 16> block;
  std::array<double, 16> wide;
  for (int i = 0; i < 16; ++i) wide[i] = block[i] = static_cast<float>(i) / 16 + 0x1p-8f;
  const std::array<double, 16> u = wide;
  normal_block(std::span(block), 3.0f, 0.5f);
  normal_block(std::span(wide), 3.0, 0.5);
  for (int j = 0; j < 8; ++j) {
    const double radius = std::sqrt(-2 * std::log(1 - u[j])), angle = 2 * std::numbers::pi * u[j + 8];
    EXPECT_NEAR(wide[j], 3 + 0.5 * radius * std::cos(angle), 1e-14);
    EXPECT_NEAR(wide[j + 8], 3 + 0.5 * radius * std::sin(angle), 1e-14);
    EXPECT_NEAR(block[j], wide[j], 4e-7);  // an ulp of values near 3, and the angle's rounding
    EXPECT_NEAR(block[j + 8], wide[j + 8], 4e-7);
  }
}

// Scaling and shifting are one fused operation: with a mean an unfused one has other bits.
TEST(NormalBlock, ScalesAndShiftsFused) {
  int differ = 0;
  for (int shift = 0; shift < 16; ++shift) {
    std::array<float, 16> block;
    for (int i = 0; i < 16; ++i) block[i] = static_cast<float>(i) / 16 + 0x1p-8f * static_cast<float>(shift);
    const std::array<float, 16> u = block;
    normal_block(std::span(block), 1.5f, 0.3f);
    for (int j = 0; j < 8; ++j) {
      const float radius = std::sqrt(-2 * cephes_log(1 - u[j]));
      const auto [sin, cos] = cephes_sincos(2 * std::numbers::pi_v<float> * u[j + 8]);
      // Exact product, the sum in double, then one rounding.
      EXPECT_EQ(block[j], static_cast<float>(double{radius * cos} * double{0.3f} + 1.5));
      EXPECT_EQ(block[j + 8], static_cast<float>(double{radius * sin} * double{0.3f} + 1.5));
      differ += block[j] != radius * cos * 0.3f + 1.5f;
    }
  }
  EXPECT_GT(differ, 0);
}

TEST(NormalBlock, UniformZeroGivesTheMean) {
  std::array<float, 16> block{};  // u1 = 1: radius 0
  normal_block(std::span(block), 0.25f, 100.0f);
  for (const float v : block) EXPECT_EQ(v, 0.25f);
}

}  // namespace
}  // namespace assay::reference
