#include "reference/router.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "reference/testing/layer_check.h"

namespace assay::reference {
namespace {

using testing::Fixture;
using testing::inner_product;
using testing::max_difference;
using testing::Random;
using testing::Results;

constexpr ScoreFunction kAllFunctions[] = {ScoreFunction::sigmoid,           ScoreFunction::sigmoid_with_bias,
                                           ScoreFunction::softmax,           ScoreFunction::softmax_before_topk,
                                           ScoreFunction::softmax_with_bias, ScoreFunction::sqrtsoftplus};

// A router whose logits are x itself.
Parameters<double> identity_gate(Index experts, std::vector<double> correction_bias) {
  Parameters<double> p;
  p.set("weight", Tensor<double>({experts, experts}));
  for (Index e = 0; e < experts; ++e) p["weight"](e, e) = 1;
  if (!correction_bias.empty())
    p.set("e_score_correction_bias", Tensor<double>({experts}, correction_bias), {.is_buffer = true});
  return p;
}

Parameters<double> random_gate(Random& random, Index experts, Index width, bool bias) {
  Parameters<double> p;
  p.set("weight", random.tensor<double>({experts, width}));
  if (bias) p.set("bias", random.tensor<double>({experts}));
  p.set("e_score_correction_bias", random.tensor<double>({experts}, -0.1, 0.1), {.is_buffer = true});
  return p;
}

TEST(Router, HandWorked) {
  // Logits 0, ln 3, -ln 3, ln 7: scores 1/2, 3/4, 1/4, 7/8. The bias lifts expert 2 to 5/4.
  const Parameters<double> p = identity_gate(4, {0, 0, 1, 0});
  const Tensor<double> x({1, 4}, {0, std::log(3.0), -std::log(3.0), std::log(7.0)});
  RouterOptions options{.n_routed_experts = 4, .num_experts_per_tok = 2, .routed_scaling_factor = 9};
  RouterOutput<double> out = router_forward<double>(Numerics<double>{}, options, p, x);
  EXPECT_EQ(out.indices[0], 2);
  EXPECT_EQ(out.indices[1], 3);
  EXPECT_NEAR(out.weights[0], 9 * 2 / 9.0, 1e-14);  // (1/4) / (1/4 + 7/8) = 2/9: the unbiased scores
  EXPECT_NEAR(out.weights[1], 9 * 7 / 9.0, 1e-14);
  options.norm_topk_prob = false;
  out = router_forward<double>(Numerics<double>{}, options, p, x);
  EXPECT_NEAR(out.weights[0], 9 * 0.25, 1e-14);
  options.weight_uses_correction_bias = true;
  out = router_forward<double>(Numerics<double>{}, options, p, x);
  EXPECT_NEAR(out.weights[0], 9 * 1.25, 1e-14);
}

TEST(Router, TiesGoToTheLowerIndex) {
  const Parameters<double> p = identity_gate(5, {});
  for (const ScoreFunction function : kAllFunctions) {
    const RouterOptions options{.n_routed_experts = 5, .num_experts_per_tok = 3, .score_function = function};
    const auto out = router_forward<double>(Numerics<double>{}, options, p, Tensor<double>({1, 5}, {1, 2, 1, 2, 1}));
    EXPECT_EQ(std::vector<Index>(out.indices.data(), out.indices.data() + 3), (std::vector<Index>{1, 3, 0}));
  }
}

TEST(Router, ADroppedGroupIsWorthZeroOrMinusInfinity) {
  // Two groups of two, one kept. Every biased score is negative: the kept group's experts lose against a dropped
  // group's zeros, unless dropped means -infinity.
  const Parameters<double> p = identity_gate(4, {-2, -2, -3, -3});
  const Tensor<double> x({1, 4});  // scores 1/2
  RouterOptions options{.n_routed_experts = 4, .num_experts_per_tok = 2, .n_group = 2, .topk_group = 1};
  const auto chosen = [&] {
    const auto out = router_forward<double>(Numerics<double>{}, options, p, x);
    return std::set<Index>{out.indices[0], out.indices[1]};
  };
  EXPECT_EQ(chosen(), (std::set<Index>{2, 3}));
  options.score_function = ScoreFunction::softmax_with_bias;
  EXPECT_EQ(chosen(), (std::set<Index>{2, 3}));
  options.drop_groups_by_infinity = true;
  EXPECT_EQ(chosen(), (std::set<Index>{0, 1}));
  options = {.n_routed_experts = 4,
             .num_experts_per_tok = 2,
             .n_group = 2,
             .topk_group = 1,
             .score_function = ScoreFunction::sigmoid_with_bias};
  EXPECT_EQ(chosen(), (std::set<Index>{0, 1}));
}

TEST(Router, AGroupIsItsTwoBestExpertsOrWithoutABiasItsBest) {
  const Tensor<double> x({1, 6}, {3, -9, -9, 2, 2, -9});
  const RouterOptions options{.n_routed_experts = 6, .num_experts_per_tok = 2, .n_group = 2, .topk_group = 1};
  const auto first = [&](const Parameters<double>& p) {
    return router_forward<double>(Numerics<double>{}, options, p, x).indices[0];
  };
  EXPECT_EQ(first(identity_gate(6, {0, 0, 0, 0, 0, 0})), 3);
  EXPECT_EQ(first(identity_gate(6, {})), 0);
}

TEST(Router, NormalisationWithOneExpert) {
  const Parameters<double> p = identity_gate(3, {});
  RouterOptions options{.n_routed_experts = 3, .num_experts_per_tok = 1, .routed_scaling_factor = 2};
  const Tensor<double> x({1, 3}, {0, -1, -2});
  EXPECT_EQ(router_forward<double>(Numerics<double>{}, options, p, x).weights[0], 1);  // 2 sigmoid(0)
  options.normalize_single_expert = true;
  EXPECT_EQ(router_forward<double>(Numerics<double>{}, options, p, x).weights[0], 2);
}

TEST(Router, SqrtSoftplusSwitchesAtTwenty) {
  const Parameters<double> p = identity_gate(2, {});
  const RouterOptions options{.n_routed_experts = 2,
                              .num_experts_per_tok = 2,
                              .score_function = ScoreFunction::sqrtsoftplus,
                              .norm_topk_prob = false};
  const auto out = router_forward<double>(Numerics<double>{}, options, p, Tensor<double>({1, 2}, {25, 20}));
  EXPECT_EQ(out.weights[0], 5);  // above 20 softplus is the identity
  EXPECT_NEAR(out.weights[1], std::sqrt(20 + std::log1p(std::exp(-20.0))), 1e-15);
  EXPECT_GT(out.weights[1], std::sqrt(20.0));
}

TEST(Router, Invariants) {
  Random random(1);
  for (int round = 0; round < 40; ++round) {
    const ScoreFunction function = kAllFunctions[round % 6];
    const Index groups = random.integer(1, 3), per_group = random.integer(2, 5), kept = random.integer(1, groups);
    const Index experts = groups * per_group, k = random.integer(1, kept * per_group), tokens = random.integer(0, 12),
                width = 6;
    const RouterOptions options{.n_routed_experts = experts,
                                .num_experts_per_tok = k,
                                .n_group = groups,
                                .topk_group = kept,
                                .score_function = function,
                                .routed_scaling_factor = 2.5};
    const Parameters<double> p = random_gate(random, experts, width, round % 2);
    const Tensor<double> x = random.tensor<double>({tokens, width}, -2, 2);
    Tensor<std::uint8_t> mask({tokens});
    for (auto& bit : mask.span()) bit = random.integer(0, 2) > 0;
    const auto out = router_forward<double>(Numerics<double>{}, options, p, x, &mask);
    Index real = 0, load = 0;
    for (auto bit : mask.span()) real += bit;
    for (Index l : out.expert_load.span()) load += l;
    EXPECT_EQ(load, k * real);
    for (Index t = 0; t < tokens; ++t) {
      double total = 0;
      for (Index j = 0; j < k; ++j) {
        total += out.weights(t, j);
        EXPECT_GT(out.weights(t, j), 0);
      }
      if (k > 1) {
        EXPECT_NEAR(total, 2.5, 1e-12);
      }
    }
    // The router's own choice falls short of nothing, in any order; swapping in an expert left out falls short of
    // something.
    EXPECT_EQ(testing::rms(router_choice_shortfall(options, out.selection_scores, true, out.indices)), 0);
    // What the router chose can be given to it, and changes nothing but perhaps the order of sums.
    const auto given = router_forward<double>(Numerics<double>{}, options, p, x, &mask, &out.indices);
    EXPECT_EQ(max_difference(given.weights, out.weights), 0);
    // Shifting every correction bias by one constant does not change the selection without groups.
    if (groups == 1) {
      Parameters<double> shifted = p;
      for (double& beta : shifted["e_score_correction_bias"].span()) beta += 0.25;
      EXPECT_EQ(max_difference(router_forward<double>(Numerics<double>{}, options, shifted, x).indices, out.indices),
                0);
    }
  }
}

TEST(Router, ShortfallIsTheScoreThatWouldHaveToBeForgiven) {
  const RouterOptions plain{.n_routed_experts = 4, .num_experts_per_tok = 2};
  const Tensor<double> c({1, 4}, {0.1, 0.4, 0.3, 0.2});
  const auto shortfall = [&](const RouterOptions& o, Index a, Index b) {
    return router_choice_shortfall(o, c, true, Tensor<Index>({1, 2}, {a, b}))[0];
  };
  EXPECT_EQ(shortfall(plain, 2, 1), 0);
  EXPECT_NEAR(shortfall(plain, 1, 3), 0.1, 1e-15);
  EXPECT_NEAR(shortfall(plain, 0, 3), 0.3, 1e-15);
  // Groups {0, 1} and {2, 3} are worth 0.5 each; the first wins by its index, the second would be forgiven for nothing.
  const RouterOptions grouped{.n_routed_experts = 4, .num_experts_per_tok = 2, .n_group = 2, .topk_group = 1};
  EXPECT_EQ(shortfall(grouped, 0, 1), 0);
  EXPECT_NEAR(shortfall(grouped, 2, 3), 0, 1e-15);
  EXPECT_THROW(shortfall(plain, 1, 1), std::invalid_argument);
  EXPECT_THROW(shortfall(plain, 1, 4), std::invalid_argument);
}

TEST(Router, UniformRoutingHasAuxiliaryLossOne) {
  // Every expert is chosen equally often and every score is the same.
  for (const ScoreFunction function : kAllFunctions) {
    const RouterOptions options{
        .n_routed_experts = 4, .num_experts_per_tok = 2, .score_function = function, .aux_loss_coefficient = 0.1};
    const Tensor<Index> indices({2, 2}, {0, 1, 2, 3});
    const auto out = router_forward<double>(Numerics<double>{}, options, identity_gate(4, {}), Tensor<double>({2, 4}),
                                            nullptr, &indices);
    EXPECT_NEAR(out.aux_loss, 1, 1e-14);
  }
}

// Of all scores, chosen or not: with the default softmax the softmax of all logits, although its weights are that of the chosen.
TEST(Router, AuxiliaryLossByDefinition) {
  Random random(5);
  constexpr Index kTokens = 9, kExperts = 5, kChosen = 2;
  for (const ScoreFunction function : kAllFunctions)
    for (const bool normalise : {true, false}) {
      Parameters<double> p = random_gate(random, kExperts, 4, true);
      const Tensor<double> x = random.tensor<double>({kTokens, 4}, -2, 2);
      Tensor<std::uint8_t> mask({kTokens}, 1);
      mask[0] = mask[4] = 0;
      const RouterOptions options{.n_routed_experts = kExperts, .num_experts_per_tok = kChosen, .score_function = function,
                                  .norm_topk_prob = normalise, .aux_loss_coefficient = 0.1};
      const auto out = router_forward<double>(Numerics<double>{}, options, p, x, &mask);
      std::vector<double> load(kExperts), mean(kExperts);
      for (Index t = 0; t < kTokens; ++t) {
        if (!mask[t]) continue;
        for (Index j = 0; j < kChosen; ++j) load[out.indices(t, j)] += 1;
        std::vector<double> s(kExperts);
        double exponentials = 0, total = 0;
        for (Index e = 0; e < kExperts; ++e) exponentials += std::exp(out.logits(t, e));
        for (Index e = 0; e < kExperts; ++e) {
          const double z = out.logits(t, e);
          const bool is_sigmoid = function == ScoreFunction::sigmoid || function == ScoreFunction::sigmoid_with_bias;
          s[e] = is_sigmoid                                  ? 1 / (1 + std::exp(-z))
                 : function == ScoreFunction::sqrtsoftplus ? std::sqrt(std::log1p(std::exp(z)))
                                                             : std::exp(z) / exponentials;
          total += s[e];
        }
        for (Index e = 0; e < kExperts; ++e) mean[e] += s[e] / (normalise ? total : 1) / 7;
      }
      double want = 0;
      for (Index e = 0; e < kExperts; ++e) want += load[e] * kExperts / (kChosen * 7.) * mean[e];
      EXPECT_NEAR(out.aux_loss, want, 1e-13) << static_cast<int>(function) << normalise;
    }
}

TEST(Router, GradientsAreFiniteDifferences) {
  Random random(2);
  for (const ScoreFunction function : kAllFunctions)
    for (const bool normalise : {true, false})
      for (const double alpha : {0.0, 0.7}) {
        const RouterOptions options{.n_routed_experts = 6,
                                    .num_experts_per_tok = 3,
                                    .score_function = function,
                                    .norm_topk_prob = normalise,
                                    .routed_scaling_factor = 2.5,
                                    .weight_uses_correction_bias = function == ScoreFunction::sigmoid && normalise,
                                    .aux_loss_coefficient = alpha};
        Parameters<double> p = random_gate(random, 6, 5, true);
        Tensor<double> x = random.tensor<double>({7, 5}, -2, 2);
        Tensor<std::uint8_t> mask({7}, 1);
        mask[2] = mask[6] = 0;
        const Numerics<double> num;
        const auto out = router_forward<double>(num, options, p, x, &mask);
        const Tensor<double> d_weights = random.tensor<double>(out.weights.shape());
        Parameters<double> d_p;
        const double scale = 3;
        const Tensor<double> d_x = router_backward<double>(num, options, p, x, &mask, out, d_weights, d_p, scale);
        const auto loss = [&] {
          const auto now = router_forward<double>(num, options, p, x, &mask, &out.indices);
          return inner_product(now.weights, d_weights) + scale * alpha * now.aux_loss;
        };
        testing::check_gradients(p, d_p, loss);
        testing::check_gradient("x", x, d_x, loss);
        if (normalise) testing::check_adjoint(p, d_p, x, d_x, loss);
      }
}

TEST(Router, CorrectionBiasUpdate) {
  Tensor<double> bias({4}, {0.5, 0, 0, 0});
  std::optional<Tensor<Index>> load = Tensor<Index>({4}, {6, 4, 4, 2});  // mean 4
  update_correction_bias(bias, load, 0.25);
  EXPECT_EQ(bias[0], 0.25);
  EXPECT_EQ(bias[1], 0);
  EXPECT_EQ(bias[3], 0.25);
  EXPECT_FALSE(load.has_value());
  EXPECT_THROW(update_correction_bias(bias, load, 0.25), std::logic_error);
  load = Tensor<Index>({4});
  EXPECT_THROW(update_correction_bias(bias, load, 0), std::invalid_argument);
}

TEST(Router, FakeBalancedGate) {
  const auto out = fake_balanced_gate(Numerics<double>{}, {.n_routed_experts = 4, .num_experts_per_tok = 3}, 4);
  EXPECT_EQ(out.indices(1, 0), 3);
  EXPECT_EQ(out.indices(1, 1), 0);
  EXPECT_EQ(out.weights[5], 1.0 / 3);
  for (Index load : out.expert_load.span()) EXPECT_EQ(load, 3);
}

TEST(Router, RefusesOptionsThatCannotBe) {
  const Parameters<double> p = identity_gate(6, {});
  const Tensor<double> x({1, 6});
  const auto run = [&](const RouterOptions& o) { router_forward<double>(Numerics<double>{}, o, p, x); };
  EXPECT_THROW(run({.n_routed_experts = 6, .num_experts_per_tok = 7}), std::invalid_argument);
  EXPECT_THROW(run({.n_routed_experts = 6, .num_experts_per_tok = 2, .n_group = 4}), std::invalid_argument);
  EXPECT_THROW(run({.n_routed_experts = 6, .num_experts_per_tok = 2, .n_group = 6}),
               std::invalid_argument);  // one expert a group
  EXPECT_THROW(run({.n_routed_experts = 6, .num_experts_per_tok = 3, .n_group = 3, .topk_group = 1}),
               std::invalid_argument);
  EXPECT_THROW(run({.n_routed_experts = 5}), std::invalid_argument);
}

// ---- recordings

RouterOptions options_of(const Fixture& fixture) {
  const auto& a = fixture.attributes;
  const std::string function = a.at("score_func");
  RouterOptions o;
  o.n_routed_experts = a.at("n_routed_experts");
  o.num_experts_per_tok = a.at("n_activated_experts");
  o.n_group = a.at("n_expert_groups");
  o.topk_group = a.at("n_limited_groups");
  o.norm_topk_prob = a.at("norm_topk_prob");
  o.routed_scaling_factor = a.at("route_scale");
  o.aux_loss_coefficient = a.at("aux_loss_coeff");
  o.gate_in_float32 = !a.at("gate_precision").is_null();
  o.score_function = function == "sigmoid_with_bias"           ? ScoreFunction::sigmoid_with_bias
                     : function == "softmax_with_bias"         ? ScoreFunction::softmax_with_bias
                     : function == "sqrtsoftplus"              ? ScoreFunction::sqrtsoftplus
                     : function != "softmax"                   ? ScoreFunction::sigmoid
                     : a.at("softmax_before_topk").get<bool>() ? ScoreFunction::softmax_before_topk
                                                               : ScoreFunction::softmax;
  return o;
}

struct RunRouter {
  template <class T>
  Results<T> operator()(const Numerics<T>& num, const Parameters<T>& p, const Fixture& fixture) const {
    const RouterOptions options = options_of(fixture);
    const Tensor<T> x = fixture["input.hidden_states"].as<T>();
    const Tensor<std::uint8_t> mask = fixture["input.token_mask"].as<std::uint8_t>();
    const Tensor<Index> indices = fixture["output.router.indices"].as<Index>();
    const auto out = router_forward<T>(num, options, p, x, &mask, &indices);
    // The recorded choice is the router's own, or within the rounding of the scores it was made with.
    const Tensor<T> shortfall =
        router_choice_shortfall(options, out.selection_scores, p.find("e_score_correction_bias") != nullptr, indices);
    const double margin = options.gate_in_float32 || fixture.name.ends_with("_f32") ? 1e-6 : 0x1p-6;
    for (T value : shortfall.span()) EXPECT_LE(value, margin);

    Results<T> results;
    results["output.router.weights"] = out.weights;
    results["output.router.indices"] = fixture["output.router.indices"].as<T>();  // validated above
    Tensor<T> load({options.n_routed_experts});
    for (Index e = 0; e < load.size(); ++e) load[e] = static_cast<T>(out.expert_load[e]);
    results["output.expert_load"] = load;
    results["output.aux_loss"] = Tensor<T>({}, {out.aux_loss});
    Parameters<T> d_p;
    results["grad.input.hidden_states"] =
        router_backward<T>(num, options, p, x, &mask, out, fixture["grad.output.router.weights"].as<T>(), d_p);
    testing::add_gradients(results, d_p);
    if (const double gamma = fixture.attributes.at("gate_bias_update_factor"); gamma > 0) {
      Tensor<T> bias = p["e_score_correction_bias"];
      std::optional<Tensor<Index>> total = out.expert_load;
      update_correction_bias(bias, total, gamma);
      results["output.e_score_correction_bias"] = bias;
    }
    return results;
  }
};

class RouterFixture : public ::testing::TestWithParam<std::string> {};
TEST_P(RouterFixture, IsReproduced) { testing::check_fixture(GetParam(), {.relative_l2 = 5e-6}, RunRouter{}); }
INSTANTIATE_TEST_SUITE_P(Recorded, RouterFixture, ::testing::ValuesIn(testing::fixture_names("router_")),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace assay::reference
