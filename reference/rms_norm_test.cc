#include "reference/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/testing/compare.h"
#include "reference/testing/gradient_check.h"
#include "reference/testing/layer_check.h"

namespace assay::reference {
namespace {

using testing::Random;
const Numerics<double> kExact;
const Numerics<float> kBfloat16{.storage = Storage::bfloat16};

TEST(RmsNorm, ByHand) {
  // h = (3, 4) and (1, -7): mean squares 12.5 and 25; eps = 2.5 and 0 make the roots easy.
  const Tensor<double> x({2, 2}, {3, 4, 1, -7}), weight({2}, {2, -1});
  const auto out = rms_norm_forward(kExact, x, weight, nullptr, 0.);
  EXPECT_NEAR(out.hidden_states(0, 0), 6 / std::sqrt(12.5), 1e-15);
  EXPECT_NEAR(out.hidden_states(1, 1), 7. / 5, 1e-15);
  EXPECT_NEAR(out.rstd[1], 0.2, 1e-16);
  EXPECT_TRUE(out.residual.empty());
  // eps lies inside the root and is added to the mean, not to the sum: 12.5 + 23.5 = 36.
  EXPECT_NEAR(rms_norm_forward(kExact, x, weight, nullptr, 23.5).hidden_states(0, 0), 1, 1e-15);
}

TEST(RmsNorm, AddsTheResidualFirst) {
  const Tensor<double> x({1, 2}, {1, 1}), residual({1, 2}, {2, 3}), weight({2}, {1, 1});
  const auto out = rms_norm_forward(kExact, x, weight, &residual, 0.);
  EXPECT_EQ(out.residual(0, 0), 3);
  EXPECT_EQ(out.residual(0, 1), 4);
  EXPECT_NEAR(out.hidden_states(0, 1), 4 / std::sqrt(12.5), 1e-15);
}

TEST(RmsNorm, RoundsWhereTheModelDoes) {
  // 1 + 2^-8 is a tie in bfloat16: the stored stream loses it, a float stream keeps it.
  const Tensor<float> x({1, 2}, {1, 1}), residual({1, 2}, {0x1p-8f, 3}), weight({2}, {1.0078125f, 1});
  const auto rounded = rms_norm_forward(kBfloat16, x, weight, &residual, 0.f);
  EXPECT_EQ(rounded.residual(0, 0), 1.f);
  const RmsNormOptions in_fp32{.residual_in_fp32 = true};
  EXPECT_EQ(rms_norm_forward(kBfloat16, x, weight, &residual, 0.f, in_fp32).residual(0, 0), 1.f + 0x1p-8f);
  // Two roundings (Hugging Face) differ from one.
  Random random(5);
  const Tensor<float> many = random.tensor<float>({16, 64}), w = random.tensor<float>({64}, 0.5, 1.5);
  const auto once = rms_norm_forward(kBfloat16, many, w, nullptr, 1e-5f);
  const auto twice = rms_norm_forward(kBfloat16, many, w, nullptr, 1e-5f, {.round_normed_first = true});
  EXPECT_FALSE(testing::same_bits(once.hidden_states, twice.hidden_states));
  EXPECT_LT(testing::relative_l2(twice.hidden_states, once.hidden_states), 0x1p-7);
}

TEST(RmsNorm, GradientsByFiniteDifferences) {
  for (const bool with_residual : {false, true}) {
    Random random(1);
    const Index rows = 6, width = 13;
    const double eps = 0.05;
    auto x = random.tensor<double>({rows, width}), residual = random.tensor<double>({rows, width});
    auto weight = random.tensor<double>({width});
    const auto d_y = random.tensor<double>({rows, width}), d_stream = random.tensor<double>({rows, width});
    const Tensor<double>* stream = with_residual ? &residual : nullptr;
    const auto loss = [&] {
      const auto out = rms_norm_forward(kExact, x, weight, stream, eps);
      return testing::inner(out.hidden_states, d_y) + (with_residual ? testing::inner(out.residual, d_stream) : 0);
    };
    const auto out = rms_norm_forward(kExact, x, weight, stream, eps);
    const auto grad = rms_norm_backward(kExact, with_residual ? out.residual : x, weight, out.rstd, d_y,
                                        with_residual ? &d_stream : nullptr);
    testing::expect_gradient("hidden_states", x, grad.d_hidden_states, loss);
    testing::expect_gradient("weight", weight, grad.d_weight, loss);
    if (with_residual) testing::expect_gradient("residual", residual, grad.d_residual, loss);
    std::vector<testing::WithGradient> all = {{x, grad.d_hidden_states}, {weight, grad.d_weight}};
    if (with_residual) all.push_back({residual, grad.d_residual});
    testing::expect_adjoint(all, loss);
  }
}

// Property tests over random sizes.
class RmsNormProperty : public ::testing::TestWithParam<int> {
 protected:
  Random random{static_cast<std::uint64_t>(GetParam())};
  Index rows = random.integer(1, 9), width = random.integer(1, 70);
  Tensor<double> x = random.tensor<double>({rows, width}, -3, 3), weight = random.tensor<double>({width});
  Tensor<double> d_y = random.tensor<double>({rows, width});
};
INSTANTIATE_TEST_SUITE_P(Sizes, RmsNormProperty, ::testing::Range(0, 20));

TEST_P(RmsNormProperty, ScalingTheInputScalesEps) {  // RMSNorm(alpha x; eps) = RMSNorm(x; eps / alpha^2)
  const double alpha = random.uniform(0.1, 5), eps = random.uniform(1e-6, 1);
  Tensor<double> scaled = x;
  for (double& v : scaled.span()) v *= alpha;
  EXPECT_LT(testing::relative_l2(rms_norm_forward(kExact, scaled, weight, nullptr, eps).hidden_states,
                                 rms_norm_forward(kExact, x, weight, nullptr, eps / (alpha * alpha)).hidden_states), 1e-14);
}

TEST_P(RmsNormProperty, TheGradientIsNearlyOrthogonalToTheInput) {  // sum x dx = eps r^3 sum w dy x, exactly
  const double eps = random.uniform(1e-3, 1);
  const auto out = rms_norm_forward(kExact, x, weight, nullptr, eps);
  const auto grad = rms_norm_backward(kExact, x, weight, out.rstd, d_y, nullptr);
  for (Index r = 0; r < rows; ++r) {
    const double* xr = &x(r, 0);
    const double along = dot(weight.data(), &d_y(r, 0), xr, width);
    EXPECT_NEAR(dot(xr, &grad.d_hidden_states(r, 0), width), eps * std::pow(out.rstd[r], 3) * along,
                1e-13 * static_cast<double>(width) * 9);  // rounding of width products below 9
  }
}

class RmsNormFixture : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Upstream, RmsNormFixture, ::testing::ValuesIn(testing::fixture_names("rms_norm_")));

TEST_P(RmsNormFixture, Reproduced) {
  const auto run = [](const auto& num, const auto& p, const testing::Fixture& fixture) {
    using T = typename std::remove_cvref_t<decltype(num)>::Scalar;
    const auto x = fixture["input.hidden_states"].as<T>();
    const Index width = x.dim(-1);
    const auto rows = x.reshaped({x.size() / width, width}), d_y = fixture["grad.output.hidden_states"].as<T>().reshaped(rows.shape());
    const auto out = rms_norm_forward(num, rows, p["weight"], nullptr, fixture.attributes.at("eps").template get<T>());
    const auto d = rms_norm_backward(num, rows, p["weight"], out.rstd, d_y, nullptr);
    return testing::Results<T>{{"output.hidden_states", out.hidden_states},
                               {"grad.input.hidden_states", d.d_hidden_states},
                               {"grad.weight", d.d_weight}};
  };
  testing::check_fixture(GetParam(), {.relative_l2 = 5e-6}, run);
}

TEST(RmsNorm, EmptyAndWrong) {
  const Tensor<double> none({0, 4}), weight({4}, 1.);
  EXPECT_EQ(rms_norm_forward(kExact, none, weight, nullptr, 1e-5).hidden_states.size(), 0);
  const auto grad = rms_norm_backward(kExact, none, weight, Tensor<double>(Shape{0}), none, nullptr);
  for (double g : grad.d_weight.span()) EXPECT_EQ(g, 0);
  const Tensor<double> x({2, 3});
  try {
    rms_norm_forward(kExact, x, weight, nullptr, 1e-5);
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "rms_norm_forward: weight has shape [4]; want [3]");
  }
  EXPECT_THROW(rms_norm_forward(kExact, none, weight, nullptr, -1.), std::invalid_argument);
}

}  // namespace
}  // namespace assay::reference
