#include "reference/linear.h"

#include <gtest/gtest.h>

#include "reference/testing/compare.h"
#include "reference/testing/gradient_check.h"

namespace assay::reference {
namespace {

using testing::Random;

TEST(Linear, ByHand) {
  const Tensor<double> x({1, 2}, {1, 10}), weight({3, 2}, {1, 2, 3, 4, 5, 6}), bias({3}, {0.5, 0, -1});
  const auto y = linear_forward<double>({}, x, weight, &bias);
  EXPECT_EQ(y.shape(), Shape({1, 3}));
  EXPECT_EQ(y[0], 21.5);
  EXPECT_EQ(y[1], 43);
  EXPECT_EQ(y[2], 64);
}

TEST(Linear, TheBiasEntersBeforeTheOneRounding) {
  // 1 + 2^-9 rounds to 1, and 1 + 2^-8 ties to 1; their sum 1 + 3/512 rounds up. Two roundings would give 1.
  const Tensor<float> x({1, 1}, {1.f}), bias({1}, {0x1p-8f});
  const Tensor<float> y = linear_forward<float>({.storage = Storage::bfloat16}, x, Tensor<float>({1, 1}, {1.f + 0x1p-9f}), &bias);
  EXPECT_EQ(y[0], 1.f + 0x1p-7f);
}

TEST(Linear, GradientsByFiniteDifferences) {
  Random random(1);
  auto x = random.tensor<double>({2, 5, 7}), weight = random.tensor<double>({4, 7}), bias = random.tensor<double>({4});
  const auto d_y = random.tensor<double>({2, 5, 4});
  const auto loss = [&] { return testing::inner(linear_forward<double>({}, x, weight, &bias), d_y); };
  const auto grad = linear_backward<double>({}, x, weight, d_y, true);
  testing::expect_gradient("x", x, grad.x, loss);
  testing::expect_gradient("weight", weight, grad.weight, loss);
  testing::expect_gradient("bias", bias, grad.bias, loss);
  testing::expect_adjoint({{x, grad.x}, {weight, grad.weight}, {bias, grad.bias}}, loss);
  EXPECT_TRUE(linear_backward<double>({}, x, weight, d_y).bias.empty());
}

TEST(Linear, EmptyAndWrong) {
  const Tensor<double> none({0, 7}), weight({4, 7}, 1.);
  EXPECT_EQ(linear_forward<double>({}, none, weight).shape(), Shape({0, 4}));
  const auto grad = linear_backward<double>({}, none, weight, Tensor<double>({0, 4}), true);
  for (double g : grad.weight.span()) EXPECT_EQ(g, 0);
  try {
    linear_forward<double>({}, Tensor<double>({2, 6}), weight);
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "linear_forward: x has shape [2, 6]; want [.., 7]");
  }
}

}  // namespace
}  // namespace assay::reference
