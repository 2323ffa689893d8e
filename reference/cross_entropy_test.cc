#include "reference/cross_entropy.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/testing/gradient_check.h"
#include "reference/testing/layer_check.h"

namespace assay::reference {
namespace {

using testing::Random;
constexpr Index kNone = kIgnoredTarget;

TEST(CrossEntropy, HandWorked) {
  // Softmax of (0, ln 3) is (1/4, 3/4).
  const Tensor<double> logits({3, 2}, {0, std::log(3.0), 5, 5, 1000, 0});
  const Tensor<Index> targets({3}, {0, kNone, 0});
  const auto forward = cross_entropy_forward(Numerics<double>{}, logits, targets);
  EXPECT_NEAR(forward.sum, std::log(4.0), 1e-15);  // the third is certain: nothing, and no overflow
  EXPECT_EQ(forward.count, 2);
  const Tensor<double> d = cross_entropy_backward(Numerics<double>{}, logits, targets, forward, 0.5);
  EXPECT_NEAR(d[0], -0.375, 1e-15);
  EXPECT_NEAR(d[1], 0.375, 1e-15);
  EXPECT_EQ(d[2], 0);
  EXPECT_EQ(d[4], 0);
}

TEST(CrossEntropy, AllTargetsIgnoredIsZeroWithoutGradient) {
  const Tensor<double> logits({2, 3}, 1.0);
  const Tensor<Index> targets({2}, kNone);
  const auto forward = cross_entropy_forward(Numerics<double>{}, logits, targets);
  EXPECT_EQ(forward.sum, 0);
  EXPECT_EQ(forward.count, 0);
  EXPECT_EQ(testing::rms(cross_entropy_backward(Numerics<double>{}, logits, targets, forward, 1.0)), 0);
}

TEST(CrossEntropy, GradientIsFiniteDifference) {
  Random random(1);
  Tensor<double> logits = random.tensor<double>({9, 17}, -3, 3);
  Tensor<Index> targets({9});
  for (Index& target : targets.span()) target = random.integer(0, 16);
  targets[4] = kNone;
  const Numerics<double> num;
  const auto loss = [&] { return cross_entropy_forward(num, logits, targets).sum / 8; };
  const auto d = cross_entropy_backward(num, logits, targets, cross_entropy_forward(num, logits, targets), 1.0 / 8);
  testing::check_gradient("logits", logits, d, loss, 1e-6, 40);
  testing::expect_adjoint({{logits, d}}, loss);
}

TEST(CrossEntropy, PiecesOfTokensAddUp) {
  Random random(2);
  const Tensor<double> logits = random.tensor<double>({50, 11}, -3, 3);
  Tensor<Index> targets({50});
  for (Index& target : targets.span()) target = random.integer(0, 10);
  double sum = 0;
  for (Index begin = 0; begin < 50; begin += 7) {
    const Index n = std::min<Index>(7, 50 - begin);
    sum +=
        cross_entropy_forward(
            Numerics<double>{},
            Tensor<double>({n, 11}, std::vector<double>(logits.data() + begin * 11, logits.data() + (begin + n) * 11)),
            Tensor<Index>({n}, std::vector<Index>(targets.data() + begin, targets.data() + begin + n)))
            .sum;
  }
  EXPECT_NEAR(sum, cross_entropy_forward(Numerics<double>{}, logits, targets).sum, 1e-12);
}

TEST(CrossEntropy, Targets) {
  const Tensor<double> logits({1, 3});
  EXPECT_THROW(cross_entropy_forward(Numerics<double>{}, logits, Tensor<Index>({1}, {3})), std::invalid_argument);
  EXPECT_THROW(cross_entropy_forward(Numerics<double>{}, logits, Tensor<Index>({1}, {-1})), std::invalid_argument);
  const Tensor<Index> shifted = shifted_labels(Tensor<Index>({2, 3}, {1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(std::vector<Index>(shifted.data(), shifted.data() + 6), (std::vector<Index>{2, 3, kNone, 5, 6, kNone}));
}

}  // namespace
}  // namespace assay::reference
