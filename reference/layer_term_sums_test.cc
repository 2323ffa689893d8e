// Sums of terms against the terms themselves, and the terms' plain sums against the layers' results.
#include "reference/layer_term_sums.h"

#include <gtest/gtest.h>

#include "reference/router.h"
#include "reference/testing/random.h"

namespace assay::reference {
namespace {

using testing::Random;

struct Brute {
  double value = 0, absolute = 0, squares = 0;
  void add(double term) { value += term, absolute += std::fabs(term), squares += term * term; }
};
void expect(const TermSums<double>& sums, Index at, const Brute& want, double value, const char* name) {
  EXPECT_NEAR(value, want.value, 1e-12) << name << " " << at;
  EXPECT_NEAR(sums.absolute[at], want.absolute, 1e-12) << name << " " << at;
  EXPECT_NEAR(sums.squares[at], want.squares, 1e-12) << name << " " << at;
}

// out[i, j] = sum_k a(i, k) b(k, j), + bias(j), for every element.
template <class A, class B, class C>
void expect_product(const TermSums<double>& sums, const Tensor<double>& out, Index rows, Index depth, Index columns, const A& a,
                    const B& b, const C& bias, const char* name) {
  ASSERT_EQ(sums.absolute.size(), rows * columns) << name;
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j) {
      Brute want;
      for (Index k = 0; k < depth; ++k) want.add(a(i, k) * b(k, j));
      want.add(bias(j));
      expect(sums, i * columns + j, want, out[i * columns + j], name);
    }
}
const auto kNone = [](Index) { return 0.; };

TEST(LayerTermSums, Mlp) {
  constexpr Index kTokens = 5, kWidth = 3, kInner = 4;
  for (const bool has_bias : {true, false}) {
    Random random(1);
    Parameters<double> p;
    p.set("up_proj.weight", random.tensor<double>({kInner, kWidth}));
    p.set("down_proj.weight", random.tensor<double>({kWidth, kInner}));
    if (has_bias) p.set("up_proj.bias", random.tensor<double>({kInner})), p.set("down_proj.bias", random.tensor<double>({kWidth}));
    const auto u = random.tensor<double>({1, kTokens, kWidth}), d_y = random.tensor<double>({1, kTokens, kWidth});
    MlpSaved<double> saved;
    const auto y = mlp_forward<double>({}, p, u, &saved);
    Parameters<double> d_p;
    const auto d_u = mlp_backward<double>({}, p, u, saved, d_y, d_p);
    const auto sums = mlp_term_sums<double>(p, u, saved);
    const auto back = mlp_backward_term_sums<double>(p, u, saved, d_y);

    const auto at = [](const Tensor<double>& t) { return [&t](Index i, Index j) { return t[i * t.dim(-1) + j]; }; };
    const auto transposed = [](const Tensor<double>& t) { return [&t](Index i, Index j) { return t[j * t.dim(-1) + i]; }; };
    const auto bias = [&](const char* name) {
      return [t = p.find(name)](Index j) { return t ? (*t)[j] : 0.; };
    };
    Tensor<double> a = saved.h, d_a(saved.h.shape()), d_h(saved.h.shape());
    for (double& v : a.span()) v = relu2(v);
    for (Index t = 0; t < kTokens; ++t)
      for (Index f = 0; f < kInner; ++f) {
        for (Index c = 0; c < kWidth; ++c) d_a[t * kInner + f] += d_y[t * kWidth + c] * p["down_proj.weight"](c, f);
        d_h[t * kInner + f] = d_a[t * kInner + f] * relu2_derivative(saved.h[t * kInner + f]);
      }
    const Tensor<double>&up = p["up_proj.weight"], &down = p["down_proj.weight"];
    expect_product(sums.h, saved.h, kTokens, kWidth, kInner, at(u), transposed(up), bias("up_proj.bias"), "h");
    expect_product(sums.y, y, kTokens, kInner, kWidth, at(a), transposed(down), bias("down_proj.bias"), "y");
    expect_product(back.down.d_x, d_a, kTokens, kWidth, kInner, at(d_y), at(down), kNone, "d_a");
    expect_product(back.up.d_x, d_u, kTokens, kInner, kWidth, at(d_h), at(up), kNone, "d_u");
    expect_product(back.down.d_weight, d_p["down_proj.weight"], kWidth, kTokens, kInner, transposed(d_y), at(a), kNone, "d_down");
    expect_product(back.up.d_weight, d_p["up_proj.weight"], kInner, kTokens, kWidth, transposed(d_h), at(u), kNone, "d_up");
    EXPECT_EQ(back.up.d_bias.absolute.size(), has_bias ? kInner : 0);
    if (!has_bias) continue;
    const auto one = [](Index, Index) { return 1.; };
    expect_product(back.down.d_bias, d_p["down_proj.bias"], kWidth, kTokens, 1, transposed(d_y), one, kNone, "d_down_bias");
    expect_product(back.up.d_bias, d_p["up_proj.bias"], kInner, kTokens, 1, transposed(d_h), one, kNone, "d_up_bias");
  }
}

// One expert has no token, one token goes nowhere.
TEST(LayerTermSums, Experts) {
  constexpr Index kTokens = 6, kChoices = 2, kExperts = 4, kWidth = 3, kInner = 5;
  for (const bool has_bias : {true, false})
    for (const bool weight_after_down : {true, false}) {
      Random random(2);
      Parameters<double> p;
      p.set("gate_and_up_projs", random.tensor<double>({kExperts, kWidth, kInner}));
      p.set("down_projs", random.tensor<double>({kExperts, kInner, kWidth}));
      if (has_bias) {
        p.set("gate_up_proj_bias", random.tensor<double>({kExperts, kInner}));
        p.set("down_proj_bias", random.tensor<double>({kExperts, kWidth}));
      }
      const Tensor<double>&up = p["gate_and_up_projs"], &down = p["down_projs"];
      const auto up_bias = [&](Index e, Index f) { return has_bias ? p["gate_up_proj_bias"](e, f) : 0; };
      const auto down_bias = [&](Index e, Index c) { return has_bias ? p["down_proj_bias"](e, c) : 0; };
      const Tensor<Index> indices({kTokens, kChoices}, {0, 1, 3, 0, 1, 3, 0, 3, 1, 0, 3, 1});
      Tensor<std::uint8_t> mask({kTokens}, 1);
      mask[2] = 0;
      const auto permutation = permute_by_expert(indices, &mask, kExperts, 0, kExperts);
      const auto x = random.tensor<double>({kTokens, kWidth}), weights = random.tensor<double>({kTokens, kChoices}, -1, 2),
                 d_acc = random.tensor<double>({kTokens, kWidth});
      Tensor<double> h;
      const auto acc = experts_forward<double>({}, weight_after_down, p, permutation, x, weights, h);
      Parameters<double> d_p;
      const auto d = experts_backward<double>({}, weight_after_down, p, permutation, x, weights, h, d_acc, d_p);
      const auto sums = experts_term_sums<double>(weight_after_down, p, permutation, x, weights, h);
      const auto back = experts_backward_term_sums<double>(weight_after_down, p, permutation, x, weights, h, d_acc);

      using Bag = std::vector<Brute>;
      Bag want_acc(acc.size()), d_x(x.size()), d_w(weights.size()), d_up(up.size()), d_down(down.size()),
          d_up_bias(kExperts * kInner), d_down_bias(kExperts * kWidth);
      for (Index slot = 0; slot < static_cast<Index>(permutation.slots.size()); ++slot) {
        const Index at = permutation.slots[slot], t = at / kChoices, e = indices[at];
        const double w = weights[at], before = weight_after_down ? 1 : w, after = weight_after_down ? w : 1;
        std::vector<double> o(kWidth);
        for (Index f = 0; f < kInner; ++f) {
          Brute want_h, want_d_a;
          for (Index c = 0; c < kWidth; ++c) want_h.add(x(t, c) * up(e, c, f)), want_d_a.add(after * d_acc(t, c) * down(e, f, c));
          want_h.add(up_bias(e, f));
          expect(sums.h, slot * kInner + f, want_h, h(slot, f), "h");
          expect(back.d_a, slot * kInner + f, want_d_a, want_d_a.value, "d_a");
          const double a = before * relu2(h(slot, f)), d_h = before * relu2_derivative(h(slot, f)) * want_d_a.value;
          if (!weight_after_down) d_w[at].add(want_d_a.value * relu2(h(slot, f)));
          d_up_bias[e * kInner + f].add(d_h);
          for (Index c = 0; c < kWidth; ++c) {
            o[c] += a * down(e, f, c);
            want_acc[t * kWidth + c].add(after * a * down(e, f, c));
            d_x[t * kWidth + c].add(d_h * up(e, c, f));
            d_up[(e * kWidth + c) * kInner + f].add(x(t, c) * d_h);
            d_down[(e * kInner + f) * kWidth + c].add(a * after * d_acc(t, c));
          }
        }
        for (Index c = 0; c < kWidth; ++c) {
          want_acc[t * kWidth + c].add(w * down_bias(e, c));
          d_w[at].add((weight_after_down ? o[c] + down_bias(e, c) : down_bias(e, c)) * d_acc(t, c));
          d_down_bias[e * kWidth + c].add(w * d_acc(t, c));
        }
      }
      const auto expect_all = [](const TermSums<double>& got, const Bag& want, const Tensor<double>& value, const char* name) {
        ASSERT_EQ(got.absolute.size(), static_cast<Index>(want.size())) << name;
        for (Index i = 0; i < value.size(); ++i) expect(got, i, want[i], value[i], name);
      };
      expect_all(sums.acc, want_acc, acc, "acc");
      expect_all(back.d_latent, d_x, d.latent, "d_latent");
      expect_all(back.d_weights, d_w, d.weights, "d_weights");
      expect_all(back.d_up, d_up, d_p["gate_and_up_projs"], "d_up");
      expect_all(back.d_down, d_down, d_p["down_projs"], "d_down");
      EXPECT_EQ(back.d_up_bias.absolute.empty(), !has_bias);
      if (!has_bias) continue;
      expect_all(back.d_up_bias, d_up_bias, d_p["gate_up_proj_bias"], "d_up_bias");
      expect_all(back.d_down_bias, d_down_bias, d_p["down_proj_bias"], "d_down_bias");
    }
}

TEST(LayerTermSums, RouterLogits) {
  constexpr Index kTokens = 4, kExperts = 6, kChoices = 3;
  for (const ScoreFunction function : {ScoreFunction::sigmoid, ScoreFunction::softmax, ScoreFunction::softmax_before_topk,
                                       ScoreFunction::sqrtsoftplus})
    for (const bool normalised : {true, false}) {
      Random random(3);
      Parameters<double> p;
      p.set("weight", random.tensor<double>({kExperts, kTokens}, -2, 2));
      p.set("bias", random.tensor<double>({kExperts}));
      Tensor<double> x({kTokens, kTokens});  // the unit matrix: the weight's gradient is the logits', transposed
      for (Index t = 0; t < kTokens; ++t) x(t, t) = 1;
      const RouterOptions o{.n_routed_experts = kExperts, .num_experts_per_tok = kChoices, .score_function = function,
                            .norm_topk_prob = normalised, .routed_scaling_factor = 2.5, .aux_loss_coefficient = 0.5};
      Tensor<std::uint8_t> mask({kTokens}, 1);
      mask[1] = 0;
      const auto out = router_forward<double>({}, o, p, x, &mask);
      const auto d_w = random.tensor<double>({kTokens, kChoices});
      Parameters<double> d_p;
      router_backward<double>({}, o, p, x, &mask, out, d_w, d_p);
      const auto terms = router_logit_gradient_terms<double>(o, &mask, out, d_w);
      const auto logits = projection_term_sums<double>(p, x);

      using Terms = std::vector<std::vector<double>>;
      // d of p / sum p, out of the terms of d_p.
      const auto normalise = [&](const std::vector<double>& s, Terms& d) {
        double total = 0;
        for (double v : s) total += v;
        std::vector<double> mean;
        for (std::size_t m = 0; m < s.size(); ++m)
          for (double t : d[m]) mean.push_back(-t * s[m] / total / total);
        for (auto& each : d) {
          for (double& t : each) t /= total;
          each.insert(each.end(), mean.begin(), mean.end());
        }
      };
      const auto through_softmax = [](const std::vector<double>& s, const Terms& d, std::vector<Brute*> into) {
        for (std::size_t e = 0; e < s.size(); ++e) {
          for (double t : d[e]) into[e]->add(s[e] * t);
          for (std::size_t m = 0; m < s.size(); ++m)
            for (double t : d[m]) into[e]->add(-s[e] * s[m] * t);
        }
      };
      for (Index t = 0; t < kTokens; ++t) {
        std::vector<double> s(kExperts), chosen(kChoices);
        for (Index e = 0; e < kExperts; ++e) s[e] = out.scores(t, e);
        double chosen_total = 0;
        for (Index j = 0; j < kChoices; ++j) chosen_total += std::exp(out.logits(t, out.indices(t, j)));
        Terms d_chosen(kChoices), d(kExperts), d_aux(kExperts);
        for (Index j = 0; j < kChoices; ++j) {
          const Index e = out.indices(t, j);
          chosen[j] = function == ScoreFunction::softmax ? std::exp(out.logits(t, e)) / chosen_total : s[e];
          d_chosen[j] = {2.5 * d_w(t, j)};
        }
        if (normalised) normalise(chosen, d_chosen);
        for (Index e = 0; e < kExperts && mask[t]; ++e)
          d_aux[e] = {0.5 * static_cast<double>(out.expert_load[e]) * kExperts / (kChoices * 3.) / 3.};
        if (normalised) normalise(s, d_aux);
        for (Index e = 0; e < kExperts; ++e) d[e] = d_aux[e];
        std::vector<Brute> want(kExperts);
        std::vector<Brute*> all, some;
        for (Brute& b : want) all.push_back(&b);
        for (Index j = 0; j < kChoices; ++j) {
          const Index e = out.indices(t, j);
          some.push_back(&want[e]);
          if (function != ScoreFunction::softmax) d[e].insert(d[e].end(), d_chosen[j].begin(), d_chosen[j].end());
        }
        if (function == ScoreFunction::softmax) through_softmax(chosen, d_chosen, some);
        if (function == ScoreFunction::softmax || function == ScoreFunction::softmax_before_topk) through_softmax(s, d, all);
        for (Index e = 0; e < kExperts; ++e) {
          const double z = out.logits(t, e);
          const double slope = function == ScoreFunction::sigmoid ? s[e] * (1 - s[e]) : 1 / (1 + std::exp(-z)) / (2 * s[e]);
          if (function == ScoreFunction::sigmoid || function == ScoreFunction::sqrtsoftplus)
            for (double term : d[e]) want[e].add(term * slope);
          expect({terms.absolute, terms.squares}, t * kExperts + e, want[e], d_p["weight"](e, t), "d_logits");
          Brute logit;
          logit.add(p["weight"](e, t)), logit.add(p["bias"][e]);
          expect(logits, t * kExperts + e, logit, z, "logits");
        }
      }
    }
}

}  // namespace
}  // namespace assay::reference
