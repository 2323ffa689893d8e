#include "reference/gated_rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/testing/compare.h"
#include "reference/testing/gradient_check.h"
#include "reference/testing/layer_check.h"

namespace assay::reference {
namespace {

using testing::Random;
const Numerics<double> kExact;

TEST(GatedRmsNorm, ByHandWithoutGate) {
  // Two groups, each with its own root: (3, 4) has mean square 12.5, (1, -7) has 25.
  const Tensor<double> x({1, 4}, {3, 4, 1, -7}), weight({4}, {1, 1, 1, 2});
  const auto out = gated_rms_norm_forward<double>(kExact, x, nullptr, weight, 2, 0.);
  EXPECT_NEAR(out.hidden_states[0], 3 / std::sqrt(12.5), 1e-15);
  EXPECT_NEAR(out.hidden_states[3], -2.8, 1e-15);
  EXPECT_EQ(out.rstd.shape(), Shape({2, 1}));
  EXPECT_NEAR(out.rstd(1, 0), 0.2, 1e-16);
}

TEST(GatedRmsNorm, TheGateMultipliesBeforeTheNorm) {
  // silu(50) = 50: v = (150, 200), which the norm brings back to (3, 4) / sqrt(12.5). A gate after the norm would leave 50 in.
  const Tensor<double> x({1, 2}, {3, 4}), gate({1, 2}, {50, 50}), weight({2}, {1, 1});
  const auto out = gated_rms_norm_forward<double>(kExact, x, &gate, weight, 2, 0.);
  EXPECT_NEAR(out.hidden_states[0], 3 / std::sqrt(12.5), 1e-14);
  // A closed gate lets nothing through.
  const Tensor<double> closed({1, 2}, {-800, 0});
  const auto shut = gated_rms_norm_forward<double>(kExact, x, &closed, weight, 2, 1.);
  EXPECT_EQ(shut.hidden_states[0], 0);
  EXPECT_EQ(shut.hidden_states[1], 0);
  EXPECT_EQ(shut.rstd[0], 1);
}

TEST(GatedRmsNorm, StoresBfloat16Once) {
  Random random(2);
  const auto x = random.tensor<float>({3, 24}), gate = random.tensor<float>({3, 24}), weight = random.tensor<float>({24});
  const Numerics<float> matched{.storage = Storage::bfloat16};
  const auto plain = gated_rms_norm_forward<float>({}, x, &gate, weight, 8, 1e-5f);
  const auto rounded = gated_rms_norm_forward<float>(matched, x, &gate, weight, 8, 1e-5f);
  for (Index i = 0; i < x.size(); ++i) EXPECT_EQ(rounded.hidden_states[i], round_to_bfloat16(plain.hidden_states[i]));
  EXPECT_TRUE(testing::same_bits(rounded.rstd, plain.rstd));
}

TEST(GatedRmsNorm, GradientsByFiniteDifferences) {
  for (const bool with_gate : {false, true}) {
    Random random(1);
    const Index rows = 5, width = 12, group_size = 4;
    auto x = random.tensor<double>({rows, width}), gate = random.tensor<double>({rows, width}, -2, 2);
    auto weight = random.tensor<double>({width});
    const auto d_y = random.tensor<double>({rows, width});
    const Tensor<double>* z = with_gate ? &gate : nullptr;
    const auto loss = [&] {
      return testing::inner(gated_rms_norm_forward(kExact, x, z, weight, group_size, 0.05).hidden_states, d_y);
    };
    const auto out = gated_rms_norm_forward(kExact, x, z, weight, group_size, 0.05);
    const auto grad = gated_rms_norm_backward(kExact, x, z, weight, out.rstd, d_y, group_size);
    testing::expect_gradient("hidden_states", x, grad.d_hidden_states, loss, {3, 4});  // beside a group's border
    testing::expect_gradient("weight", weight, grad.d_weight, loss);
    if (with_gate) testing::expect_gradient("gate", gate, grad.d_gate, loss, {3, 4});
    std::vector<testing::WithGradient> all = {{x, grad.d_hidden_states}, {weight, grad.d_weight}};
    if (with_gate) all.push_back({gate, grad.d_gate});
    testing::expect_adjoint(all, loss);
  }
}

class GatedRmsNormProperty : public ::testing::TestWithParam<int> {
 protected:
  Random random{static_cast<std::uint64_t>(GetParam())};
  Index rows = random.integer(1, 7), group_size = random.integer(1, 40), groups = random.integer(1, 5), width = groups * group_size;
  Tensor<double> x = random.tensor<double>({rows, width}, -3, 3), gate = random.tensor<double>({rows, width}, -3, 3);
  Tensor<double> weight = random.tensor<double>({width}), d_y = random.tensor<double>({rows, width});
};
INSTANTIATE_TEST_SUITE_P(Sizes, GatedRmsNormProperty, ::testing::Range(0, 20));

TEST_P(GatedRmsNormProperty, ScalingTheInputScalesEps) {
  const double alpha = random.uniform(0.1, 5), eps = random.uniform(1e-6, 1);
  Tensor<double> scaled = x;
  for (double& v : scaled.span()) v *= alpha;
  EXPECT_LT(testing::relative_l2(
                gated_rms_norm_forward(kExact, scaled, &gate, weight, group_size, eps).hidden_states,
                gated_rms_norm_forward(kExact, x, &gate, weight, group_size, eps / (alpha * alpha)).hidden_states), 1e-14);
}

TEST_P(GatedRmsNormProperty, TheGradientIsNearlyOrthogonalToTheInput) {  // per group: sum x dx = eps r^3 sum u v
  const double eps = random.uniform(1e-3, 1);
  const auto out = gated_rms_norm_forward(kExact, x, &gate, weight, group_size, eps);
  const auto grad = gated_rms_norm_backward(kExact, x, &gate, weight, out.rstd, d_y, group_size);
  for (Index r = 0; r < rows; ++r)
    for (Index g = 0; g < groups; ++g) {
      double along = 0;
      for (Index j = g * group_size; j < (g + 1) * group_size; ++j) along += weight[j] * d_y(r, j) * x(r, j) * silu(gate(r, j));
      const Index first = g * group_size;
      EXPECT_NEAR(dot(&x(r, first), &grad.d_hidden_states(r, first), group_size), eps * std::pow(out.rstd(g, r), 3) * along,
                  1e-13 * static_cast<double>(group_size) * 27);  // rounding of products below 3 * 3 * 3
    }
}

class GatedRmsNormFixture : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Upstream, GatedRmsNormFixture, ::testing::ValuesIn(testing::fixture_names("rmsnorm_gated_")));

TEST_P(GatedRmsNormFixture, Reproduced) {
  const auto run = [](const auto& num, const auto& p, const testing::Fixture& fixture) {
    using T = typename std::remove_cvref_t<decltype(num)>::Scalar;
    const auto in_rows = [&](const char* name) {
      const auto t = fixture[name].as<T>();
      return t.reshaped({t.size() / t.dim(-1), t.dim(-1)});
    };
    const auto x = in_rows("input.hidden_states"), d_y = in_rows("grad.output.hidden_states");
    const auto gate = fixture.find("input.gate") ? in_rows("input.gate") : Tensor<T>{};
    const auto* z = gate.empty() ? nullptr : &gate;
    const Index group_size = fixture.attributes.at("group_size");
    const auto out = gated_rms_norm_forward(num, x, z, p["weight"], group_size, fixture.attributes.at("eps").template get<T>());
    const auto d = gated_rms_norm_backward(num, x, z, p["weight"], out.rstd, d_y, group_size);
    return testing::Results<T>{{"output.hidden_states", out.hidden_states},
                               {"grad.input.hidden_states", d.d_hidden_states},
                               {"grad.input.gate", d.d_gate},
                               {"grad.weight", d.d_weight}};
  };
  testing::check_fixture(GetParam(), {.relative_l2 = 5e-6}, run);
}

TEST(GatedRmsNorm, Wrong) {
  const Tensor<double> x({2, 6}), weight({6});
  try {
    gated_rms_norm_forward<double>(kExact, x, nullptr, weight, 4, 1e-5);
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "gated_rms_norm_forward: group_size = 4; want a divisor of width = 6");
  }
}

}  // namespace
}  // namespace assay::reference
