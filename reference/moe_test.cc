#include "reference/moe.h"

#include <gtest/gtest.h>

#include "reference/linear.h"
#include "reference/testing/layer_check.h"

namespace assay::reference {
namespace {

using testing::Fixture;
using testing::inner_product;
using testing::max_difference;
using testing::Random;
using testing::Results;

constexpr double kExact = 1e-12;

struct Sizes {
  Index width = 6, latent = 0, experts = 6, k = 3, inner = 4, shared = 5, groups = 1, kept = 1;
  bool bias = true;
};

struct Layer {
  MoeOptions options;
  Parameters<double> p;

  Layer(Random& random, const Sizes& n) {
    options.router = {.n_routed_experts = n.experts,
                      .num_experts_per_tok = n.k,
                      .n_group = n.groups,
                      .topk_group = n.kept,
                      .routed_scaling_factor = 2.5};
    const Index input = n.latent ? n.latent : n.width;
    const auto add = [&](const char* name, Shape shape) { p.set(name, random.tensor<double>(std::move(shape))); };
    const auto add_linear = [&](const std::string& name, Index out, Index in) {
      add((name + ".weight").c_str(), {out, in});
      if (n.bias) add((name + ".bias").c_str(), {out});
    };
    add("gate.weight", {n.experts, n.width});
    p.set("gate.e_score_correction_bias", random.tensor<double>({n.experts}, -0.2, 0.2), {.is_buffer = true});
    add("experts.gate_and_up_projs", {n.experts, input, n.inner});
    add("experts.down_projs", {n.experts, n.inner, input});
    if (n.bias) add("experts.gate_up_proj_bias", {n.experts, n.inner});
    if (n.bias) add("experts.down_proj_bias", {n.experts, input});
    add_linear("shared_experts.up_proj", n.shared, n.width);
    add_linear("shared_experts.down_proj", n.width, n.shared);
    if (n.latent) add_linear("fc1_latent_proj", n.latent, n.width);
    if (n.latent) add_linear("fc2_latent_proj", n.width, n.latent);
  }
  Tensor<double> forward(const Tensor<double>& x, const Tensor<std::uint8_t>* mask = nullptr,
                         const Tensor<Index>* indices = nullptr) const {
    return moe_forward<double>(Numerics<double>{}, options, p, x, mask, indices);
  }
};

// One token at a time, as the equations say it.
Tensor<double> moe_by_definition(const Layer& layer, const Tensor<double>& x, const Tensor<std::uint8_t>* mask) {
  const Numerics<double> num;
  const ParameterScope<double> p(layer.p);
  const auto linear = [&](const Tensor<double>& in, const std::string& name) {
    return linear_forward(num, in, p[name + ".weight"], p.find(name + ".bias"));
  };
  const bool is_latent = p.find("fc1_latent_proj.weight") != nullptr;
  const auto routed = router_forward<double>(num, layer.options.router, p.scope("gate."), x);
  const Tensor<double> latent = is_latent ? linear(x, "fc1_latent_proj") : x;
  const Tensor<double>&up = p["experts.gate_and_up_projs"], &down = p["experts.down_projs"];
  Tensor<double> acc(latent.shape());
  for (Index t = 0; t < x.dim(0); ++t)
    for (Index j = 0; j < layer.options.router.num_experts_per_tok; ++j) {
      if (mask && !(*mask)[t]) continue;
      const Index e = routed.indices(t, j);
      for (Index f = 0; f < up.dim(2); ++f) {
        double h = p.find("experts.gate_up_proj_bias") ? p["experts.gate_up_proj_bias"](e, f) : 0;
        for (Index d = 0; d < latent.dim(1); ++d) h += latent(t, d) * up(e, d, f);
        for (Index d = 0; d < latent.dim(1); ++d) acc(t, d) += routed.weights(t, j) * relu2(h) * down(e, f, d);
      }
      for (Index d = 0; d < latent.dim(1) && p.find("experts.down_proj_bias"); ++d)
        acc(t, d) += routed.weights(t, j) * p["experts.down_proj_bias"](e, d);
    }
  Tensor<double> out = mlp_forward<double>(num, p.scope("shared_experts."), x);
  if (is_latent) acc = linear(acc, "fc2_latent_proj");
  for (Index i = 0; i < out.size(); ++i) out[i] += acc[i];
  return out;
}

TEST(Moe, AgreesWithTheDefinition) {
  Random random(1);
  for (int round = 0; round < 10; ++round) {
    Sizes n;
    n.groups = random.integer(1, 2);
    n.kept = random.integer(1, n.groups);
    n.experts = n.groups * random.integer(2, 5);
    n.k = random.integer(1, n.kept * n.experts / n.groups);
    n.latent = round % 2 ? random.integer(1, 7) : 0;
    n.bias = round % 3 != 0;
    const Layer layer(random, n);
    const Index tokens = round == 9 ? 300 : random.integer(0, 20);
    const Tensor<double> x = random.tensor<double>({tokens, n.width});
    Tensor<std::uint8_t> mask({tokens});
    for (auto& bit : mask.span()) bit = random.integer(0, 3) > 0;
    EXPECT_LE(max_difference(layer.forward(x), moe_by_definition(layer, x, nullptr)), kExact);
    EXPECT_LE(max_difference(layer.forward(x, &mask), moe_by_definition(layer, x, &mask)), kExact);
  }
}

TEST(Moe, GradientsAreFiniteDifferencesAndAdjoint) {
  Random random(2);
  for (const Index latent : {Index{0}, Index{5}})
    for (const bool after_down : {false, true}) {
      Layer layer(random, {.latent = latent, .experts = 8, .groups = 2, .kept = 1});
      layer.options.weight_after_down = after_down;
      layer.options.router.aux_loss_coefficient = 0;
      Tensor<double> x = random.tensor<double>({2, 7, 6});
      Tensor<std::uint8_t> mask({14}, 1);
      mask[5] = mask[13] = 0;
      const Tensor<double> d_out = random.tensor<double>(x.shape());
      const Numerics<double> num;
      MoeSaved<double> saved;
      moe_forward<double>(num, layer.options, layer.p, x, &mask, nullptr, &saved);
      Parameters<double> d_p;
      const Tensor<double> d_x = moe_backward<double>(num, layer.options, layer.p, x, &mask, saved, d_out, d_p);
      const auto loss = [&] { return inner_product(layer.forward(x, &mask, &saved.router.indices), d_out); };
      testing::check_gradients(layer.p, d_p, loss);
      testing::check_gradient("hidden_states", x, d_x, loss);
      testing::check_adjoint(layer.p, d_p, x, d_x, loss);
    }
}

TEST(Moe, AMaskedTokenGetsTheSharedExpertAndThroughALatentTheBias) {
  Random random(3);
  for (const Index latent : {Index{0}, Index{4}}) {
    const Layer layer(random, {.latent = latent});
    const Tensor<double> x = random.tensor<double>({3, 6});
    const Tensor<std::uint8_t> mask({3});
    Tensor<double> wanted =
        mlp_forward<double>(Numerics<double>{}, ParameterScope<double>(layer.p, "shared_experts."), x);
    for (Index i = 0; i < wanted.size() && latent; ++i) wanted[i] += layer.p["fc2_latent_proj.bias"][i % 6];
    EXPECT_LE(max_difference(layer.forward(x, &mask), wanted), kExact);
  }
}

TEST(Moe, ExpertsWithoutTokensHaveGradientZero) {
  Random random(4);
  const Layer layer(random, {.experts = 6, .k = 2});
  const Tensor<double> x = random.tensor<double>({4, 6}), d_out = random.tensor<double>({4, 6});
  const Tensor<Index> indices({4, 2}, {1, 4, 4, 1, 1, 4, 4, 1});
  const Numerics<double> num;
  MoeSaved<double> saved;
  moe_forward<double>(num, layer.options, layer.p, x, nullptr, &indices, &saved);
  Parameters<double> d_p;
  moe_backward<double>(num, layer.options, layer.p, x, nullptr, saved, d_out, d_p);
  for (const char* name :
       {"experts.gate_and_up_projs", "experts.down_projs", "experts.gate_up_proj_bias", "experts.down_proj_bias"}) {
    const Tensor<double>& d = d_p[name];
    const Index each = d.size() / 6;
    for (Index i = 0; i < d.size(); ++i)
      if (i / each != 1 && i / each != 4) {
        ASSERT_EQ(d[i], 0) << name << " of expert " << i / each;
      }
  }
}

TEST(Moe, PermutingExpertsChangesNothing) {
  Random random(5);
  const Layer layer(random, {.experts = 5, .k = 2});
  Layer permuted = layer;
  const Index order[] = {3, 0, 4, 1, 2};
  for (const char* name : {"gate.weight", "gate.e_score_correction_bias", "experts.gate_and_up_projs",
                           "experts.down_projs", "experts.gate_up_proj_bias", "experts.down_proj_bias"}) {
    const Tensor<double>& from = layer.p[name];
    const Index each = from.size() / 5;
    for (Index e = 0; e < 5; ++e) std::copy_n(from.data() + order[e] * each, each, permuted.p[name].data() + e * each);
  }
  const Tensor<double> x = random.tensor<double>({9, 6});
  EXPECT_LE(max_difference(layer.forward(x), permuted.forward(x)), kExact);
}

TEST(Moe, IdenticalExpertsAreOneExpert) {
  Random random(6);
  Layer layer(random, {.experts = 5, .k = 3});
  for (const char* name :
       {"experts.gate_and_up_projs", "experts.down_projs", "experts.gate_up_proj_bias", "experts.down_proj_bias"}) {
    Tensor<double>& stack = layer.p[name];
    for (Index i = stack.size() / 5; i < stack.size(); ++i) stack[i] = stack[i % (stack.size() / 5)];
  }
  const Tensor<double> x = random.tensor<double>({9, 6});
  const Tensor<Index> other(
      {9, 3}, std::vector<Index>{0, 1, 2, 1, 2, 3, 2, 3, 4, 3, 4, 0, 4, 0, 1, 0, 2, 4, 1, 3, 0, 2, 4, 1, 3, 0, 2});
  // The weights sum to the scale whoever is chosen.
  EXPECT_LE(max_difference(layer.forward(x), layer.forward(x, nullptr, &other)), kExact);
}

TEST(Moe, WeightBeforeOrAfterDownIsTheSameInExactArithmetic) {
  Random random(7);
  Layer layer(random, {.latent = 5});
  const Tensor<double> x = random.tensor<double>({9, 6});
  const Tensor<double> before = layer.forward(x);
  layer.options.weight_after_down = true;
  EXPECT_LE(max_difference(layer.forward(x), before), kExact);
}

TEST(Moe, AllExpertsAreUsedWhenEIsK) {
  Random random(8);
  const Layer layer(random, {.experts = 4, .k = 4});
  MoeSaved<double> saved;
  moe_forward<double>(Numerics<double>{}, layer.options, layer.p, random.tensor<double>({7, 6}), nullptr, nullptr,
                      &saved);
  for (Index load : saved.router.expert_load.span()) EXPECT_EQ(load, 7);
}

struct RunMoe {
  template <class T>
  Results<T> operator()(const Numerics<T>& num, const Parameters<T>& p, const Fixture& fixture) const {
    const MoeOptions options = moe_options(fixture.model_config());
    const Tensor<T> x = fixture["input.hidden_states"].as<T>();
    Tensor<std::uint8_t> mask;
    if (const auto* padding = fixture.find("input.padding_mask")) {
      mask = padding->as<std::uint8_t>().reshaped({x.dim(0) * x.dim(1)});
      for (auto& bit : mask.span()) bit = !bit;
    }
    Tensor<Index> indices;
    if (const auto* recorded = fixture.find("output.router.indices")) indices = recorded->as<Index>();
    const auto* given_mask = mask.empty() ? nullptr : &mask;
    MoeSaved<T> saved;
    Results<T> results;
    results["output.hidden_states"] =
        moe_forward<T>(num, options, p, x, given_mask, indices.empty() ? nullptr : &indices, &saved);
    results["output.router.weights"] = saved.router.weights;
    if (!indices.empty()) {
      results["output.router.indices"] = fixture["output.router.indices"].as<T>();
      const Tensor<T> shortfall = router_choice_shortfall(options.router, saved.router.selection_scores, true, indices);
      for (T value : shortfall.span()) EXPECT_LE(value, 1e-6);
    }
    Parameters<T> d_p;
    results["grad.input.hidden_states"] =
        moe_backward<T>(num, options, p, x, given_mask, saved, fixture["grad.output.hidden_states"].as<T>(), d_p);
    testing::add_gradients(results, d_p);
    return results;
  }
};

class MoeFixture : public ::testing::TestWithParam<std::string> {};
TEST_P(MoeFixture, IsReproduced) { testing::check_fixture(GetParam(), {.relative_l2 = 5e-6}, RunMoe{}); }
INSTANTIATE_TEST_SUITE_P(Recorded, MoeFixture, ::testing::ValuesIn(testing::fixture_names("moe_")),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace assay::reference
