#include "reference/mlp.h"

#include <gtest/gtest.h>

#include "reference/testing/layer_check.h"

namespace assay::reference {
namespace {

using testing::Fixture;
using testing::inner_product;
using testing::max_difference;
using testing::Random;
using testing::Results;

Parameters<double> random_mlp(Random& random, Index width, Index inner, bool bias) {
  Parameters<double> p;
  p.set("up_proj.weight", random.tensor<double>({inner, width}));
  p.set("down_proj.weight", random.tensor<double>({width, inner}));
  if (bias) p.set("up_proj.bias", random.tensor<double>({inner}));
  if (bias) p.set("down_proj.bias", random.tensor<double>({width}));
  return p;
}

TEST(Mlp, HandWorked) {
  Parameters<double> p;
  p.set("up_proj.weight", Tensor<double>({3, 2}, {1, 2, -1, 0, 3, -1}));
  p.set("up_proj.bias", Tensor<double>({3}, {0, 1, -2}));
  p.set("down_proj.weight", Tensor<double>({1, 3}, {1, 10, 100}));
  p.set("down_proj.bias", Tensor<double>({1}, {0.5}));
  // u = (2, 1): h = (4, -1, 3), a = (16, 0, 9). A width of one out is as good as any.
  EXPECT_THROW(mlp_forward<double>(Numerics<double>{}, p, Tensor<double>({1, 2}, {2, 1})), std::invalid_argument);
  p.set("down_proj.weight", Tensor<double>({2, 3}, {1, 10, 100, 0, 0, -1}));
  p.set("down_proj.bias", Tensor<double>({2}, {0.5, 0}));
  const Tensor<double> y = mlp_forward<double>(Numerics<double>{}, p, Tensor<double>({1, 2}, {2, 1}));
  EXPECT_EQ(y[0], 916.5);
  EXPECT_EQ(y[1], -9);
}

TEST(Mlp, DerivativeAtTheKinkIsZero) {
  EXPECT_EQ(relu2_derivative(0.0), 0);
  EXPECT_EQ(relu2_derivative(-1.0), 0);
  EXPECT_EQ(relu2_derivative(1.5), 3);
}

TEST(Mlp, RoundsOnceAtEveryStep) {
  // 1 + 2^-7 is a bfloat16; its square 1 + 2^-6 + 2^-14 is not and rounds to 1 + 2^-6 before the down projection.
  Parameters<float> p;
  p.set("up_proj.weight", Tensor<float>({1, 1}, {1}));
  p.set("down_proj.weight", Tensor<float>({1, 1}, {1}));
  const Numerics<float> matched{.storage = Storage::bfloat16};
  EXPECT_EQ(mlp_forward<float>(matched, p, Tensor<float>({1, 1}, {1 + 0x1p-7f}))[0], 1 + 0x1p-6f);
  EXPECT_EQ(mlp_forward<float>(Numerics<float>{}, p, Tensor<float>({1, 1}, {1 + 0x1p-7f}))[0], 1 + 0x1p-6f + 0x1p-14f);
}

TEST(Mlp, GradientsAreFiniteDifferencesAndAdjoint) {
  Random random(1);
  Parameters<double> p = random_mlp(random, 7, 11, true);
  Tensor<double> u = random.tensor<double>({2, 5, 7}, -2, 2);
  const Tensor<double> d_out = random.tensor<double>({2, 5, 7});
  const Numerics<double> num;
  MlpSaved<double> saved;
  mlp_forward<double>(num, p, u, &saved);
  Parameters<double> d_p;
  const Tensor<double> d_u = mlp_backward<double>(num, p, u, saved, d_out, d_p);
  const auto loss = [&] { return inner_product(mlp_forward<double>(num, p, u), d_out); };
  testing::check_gradients(p, d_p, loss);
  testing::check_gradient("hidden_states", u, d_u, loss);
  testing::check_adjoint(p, d_p, u, d_u, loss);
}

TEST(Mlp, IsQuadraticWithoutBiases) {
  Random random(2);
  for (int round = 0; round < 5; ++round) {
    const Index width = random.integer(1, 20), inner = random.integer(1, 40), tokens = random.integer(0, 9);
    const Parameters<double> p = random_mlp(random, width, inner, false);
    const Tensor<double> u = random.tensor<double>({tokens, width});
    Tensor<double> scaled = u;
    for (double& value : scaled.span()) value *= 4;  // a power of two: exact
    Tensor<double> y = mlp_forward<double>(Numerics<double>{}, p, u);
    for (double& value : y.span()) value *= 16;
    EXPECT_EQ(max_difference(mlp_forward<double>(Numerics<double>{}, p, scaled), y), 0);
  }
}

struct RunMlp {
  template <class T>
  Results<T> operator()(const Numerics<T>& num, const Parameters<T>& p, const Fixture& fixture) const {
    const Tensor<T> u = fixture["input.hidden_states"].as<T>();
    MlpSaved<T> saved;
    Results<T> results;
    results["output.hidden_states"] = mlp_forward<T>(num, p, u, &saved);
    Parameters<T> d_p;
    results["grad.input.hidden_states"] =
        mlp_backward<T>(num, p, u, saved, fixture["grad.output.hidden_states"].as<T>(), d_p);
    testing::add_gradients(results, d_p);
    return results;
  }
};

class MlpFixture : public ::testing::TestWithParam<std::string> {};
TEST_P(MlpFixture, IsReproduced) { testing::check_fixture(GetParam(), {.relative_l2 = 5e-6}, RunMlp{}); }
INSTANTIATE_TEST_SUITE_P(Recorded, MlpFixture, ::testing::ValuesIn(testing::fixture_names("mlp_")),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace assay::reference
