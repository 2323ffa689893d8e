#include "reference/router.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <stdexcept>

#include "reference/linear.h"
#include "reference/sums.h"
#include "reference/terms.h"

namespace assay::reference {
namespace {

// Keeps a weight finite when every score underflows to 0.
constexpr double kSumFloor = 1e-20;

bool uses_sigmoid(ScoreFunction f) { return f == ScoreFunction::sigmoid || f == ScoreFunction::sigmoid_with_bias; }
bool uses_correction_bias(ScoreFunction f) {
  return f != ScoreFunction::softmax && f != ScoreFunction::softmax_before_topk;
}
bool has_groups(const RouterOptions& o) {
  return o.n_group > 1 && (uses_sigmoid(o.score_function) || o.score_function == ScoreFunction::softmax_with_bias);
}
bool normalizes(const RouterOptions& o) {
  return o.norm_topk_prob && (o.num_experts_per_tok > 1 || o.normalize_single_expert);
}
bool drops_by_infinity(const RouterOptions& o) {
  return o.drop_groups_by_infinity || o.score_function == ScoreFunction::sigmoid_with_bias;
}

void check(const RouterOptions& o) {
  const auto fail = [](const std::string& text) { throw std::invalid_argument("router: " + text); };
  const auto text = [](Index n) { return std::to_string(n); };
  if (o.n_routed_experts < 1) fail("n_routed_experts = " + text(o.n_routed_experts) + "; want > 0");
  if (o.num_experts_per_tok < 1 || o.num_experts_per_tok > o.n_routed_experts)
    fail("num_experts_per_tok = " + text(o.num_experts_per_tok) + "; want 1 .. " + text(o.n_routed_experts));
  if (!has_groups(o)) return;
  const Index per_group = o.n_routed_experts / o.n_group;
  if (o.n_routed_experts % o.n_group != 0 || per_group < 2)
    fail("n_group = " + text(o.n_group) + "; want groups of equal size, two experts or more in each of " +
         text(o.n_routed_experts));
  if (o.topk_group < 1 || o.topk_group > o.n_group)
    fail("topk_group = " + text(o.topk_group) + "; want 1 .. " + text(o.n_group));
  if (o.num_experts_per_tok > per_group * o.topk_group)
    fail("num_experts_per_tok = " + text(o.num_experts_per_tok) + "; the kept groups hold " +
         text(per_group * o.topk_group));
}

// The indices of the k largest values, descending; of equal values the lower index first.
template <class T>
std::vector<Index> top_k(std::span<const T> values, Index k) {
  std::vector<Index> order(values.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::partial_sort(order.begin(), order.begin() + k, order.end(),
                    [&](Index a, Index b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
  order.resize(k);
  return order;
}

// A group is as good as its two best experts together, or without a correction bias as its best one.
template <class T>
std::vector<T> group_scores(const RouterOptions& o, std::span<const T> c, bool has_correction_bias) {
  const Index per_group = o.n_routed_experts / o.n_group;
  const bool best_alone = o.score_function == ScoreFunction::sigmoid && !has_correction_bias;
  std::vector<T> scores(o.n_group);
  for (Index group = 0; group < o.n_group; ++group) {
    const auto members = c.subspan(group * per_group, per_group);
    const std::vector<Index> best = top_k(members, 2);
    scores[group] = best_alone ? members[best[0]] : members[best[0]] + members[best[1]];
  }
  return scores;
}

template <class T>
std::vector<T> with_groups_dropped(const RouterOptions& o, std::span<const T> c, const std::vector<Index>& kept) {
  const Index per_group = o.n_routed_experts / o.n_group;
  std::vector<T> masked(c.begin(), c.end());
  for (Index e = 0; e < o.n_routed_experts; ++e)
    if (std::find(kept.begin(), kept.end(), e / per_group) == kept.end())
      masked[e] = drops_by_infinity(o) ? -std::numeric_limits<T>::infinity() : T(0);
  return masked;
}

template <class T>
T total_of(std::span<const T> row) {
  return sum(row.data(), static_cast<Index>(row.size()));
}
template <class T>
T inner(std::span<const T> a, std::span<const T> b) {
  return dot(a.data(), b.data(), static_cast<Index>(a.size()));
}

template <class T>
void softmax(const Numerics<T>& num, std::span<T> row) {
  const T largest = *std::max_element(row.begin(), row.end());
  for (T& value : row) value = num.exp(value - largest);
  const T total = total_of<T>(row);
  for (T& value : row) value /= total;
}

// z -> s, one row.
template <class T>
void score_row(const Numerics<T>& gate, ScoreFunction function, std::span<const T> z, std::span<T> s) {
  std::copy(z.begin(), z.end(), s.begin());
  if (uses_sigmoid(function)) {
    for (T& value : s) value = gate.store(gate.sigmoid(value));
  } else if (function == ScoreFunction::sqrtsoftplus) {
    for (T& value : s) value = std::sqrt(gate.softplus(value));
  } else {
    softmax(gate, s);
  }
}

// s_bar -> z_bar, one row, in place. f: of terms.h, as in all functions of the backward pass; d comes as f makes it.
template <class T, class F>
void score_row_backward(const F& f, const Numerics<T>& num, ScoreFunction function, std::span<const T> z,
                        std::span<const T> s, std::span<T> d) {
  if (uses_sigmoid(function)) {
    for (std::size_t e = 0; e < d.size(); ++e) d[e] *= f(s[e] * (1 - s[e]));
  } else if (function == ScoreFunction::sqrtsoftplus) {
    for (std::size_t e = 0; e < d.size(); ++e) d[e] *= s[e] > 0 ? f(num.softplus_derivative(z[e]) / (2 * s[e])) : T(0);
  } else {
    std::vector<T> f_s(s.begin(), s.end());
    for (T& value : f_s) value = f(value);
    const T mean = inner<T>(d, f_s);
    for (std::size_t e = 0; e < d.size(); ++e) d[e] = f_s[e] * (d[e] + F::kMinus * mean);
  }
}

// What scores are rounded to between score function and weights: a model-precision sigmoid gate stays in the model's
// dtype, all others work in float32.
template <class T>
Numerics<T> score_numerics(const Numerics<T>& num, const RouterOptions& o) {
  return !o.gate_in_float32 && uses_sigmoid(o.score_function) ? num : num.unrounded();
}

template <class T>
T sum_of_scores(const Numerics<T>& scores, std::span<const T> p) {
  return scores.store(total_of<T>(p)) + T(kSumFloor);
}

// The gradient of p, in place of that of p / sum p:  (d_j - sum_m d_m p_m / sum) / sum.
template <class T, class F>
void normalize_backward(const F& f, const Numerics<T>& scores, std::span<const T> p, std::span<T> d) {
  const T total = sum_of_scores(scores, p);
  std::vector<T> terms(p.size());
  for (std::size_t j = 0; j < p.size(); ++j)
    terms[j] = scores.store(d[j] * f(scores.store(scores.store(p[j] / total) / total)));
  const T d_total = scores.store(total_of<T>(terms));
  for (T& value : d) value = scores.store(scores.store(value / f(total)) + F::kMinus * d_total);
}

void check_indices(const RouterOptions& o, const Tensor<Index>& indices, Index tokens) {
  if (indices.shape() != Shape{tokens, o.num_experts_per_tok})
    throw std::invalid_argument("router: indices " + to_string(indices.shape()) + "; want " +
                                to_string({tokens, o.num_experts_per_tok}));
  for (Index t = 0; t < tokens; ++t)
    for (Index j = 0; j < o.num_experts_per_tok; ++j) {
      const Index e = indices(t, j);
      if (e < 0 || e >= o.n_routed_experts)
        throw std::invalid_argument("router: index " + std::to_string(e) + " of token " + std::to_string(t) +
                                    "; want 0 .. " + std::to_string(o.n_routed_experts - 1));
      for (Index other = 0; other < j; ++other)
        if (indices(t, other) == e)
          throw std::invalid_argument("router: token " + std::to_string(t) + " names expert " + std::to_string(e) +
                                      " twice");
    }
}

// s, or s + beta where the weights use the correction bias: what weights and the auxiliary loss are made of.
template <class T>
T original_score(const RouterOptions& o, const RouterOutput<T>& out, Index t, Index e) {
  const bool biased = o.weight_uses_correction_bias && o.score_function == ScoreFunction::sigmoid;
  return biased ? out.selection_scores(t, e) : out.scores(t, e);
}

// The weights of one token before normalisation: its original scores, or the softmax of the chosen logits.
template <class T>
std::vector<T> chosen_scores(const Numerics<T>& num, const RouterOptions& o, const RouterOutput<T>& out, Index t) {
  std::vector<T> chosen(o.num_experts_per_tok);
  for (Index j = 0; j < o.num_experts_per_tok; ++j)
    chosen[j] = o.score_function == ScoreFunction::softmax ? out.logits(t, out.indices(t, j))
                                                           : original_score(o, out, t, out.indices(t, j));
  if (o.score_function == ScoreFunction::softmax) softmax<T>(num, chosen);
  return chosen;
}

template <class T>
std::vector<T> original_scores(const RouterOptions& o, const RouterOutput<T>& out, Index t) {
  std::vector<T> s(o.n_routed_experts);
  for (Index e = 0; e < o.n_routed_experts; ++e) s[e] = original_score(o, out, t, e);
  return s;
}

bool is_real(const Tensor<std::uint8_t>* token_mask, Index t) { return !token_mask || (*token_mask)[t] != 0; }

Index real_tokens(const Tensor<std::uint8_t>* token_mask, Index tokens) {
  Index real = 0;
  for (Index t = 0; t < tokens; ++t) real += is_real(token_mask, t);
  return real;
}

// f_e = load_e E / (k T'): 1 for an expert that got its share.
template <class T>
T load_share(const RouterOptions& o, Index load, Index real) {
  return T(load) * T(o.n_routed_experts) / (T(o.num_experts_per_tok) * T(std::max<Index>(real, 1)));
}

// aux = sum_e f_e P_e,  P_e = the mean over real tokens of the original scores, normalised if the weights are.
template <class T>
T auxiliary_loss(const Numerics<T>& num, const Numerics<T>& scores, const RouterOptions& o, const RouterOutput<T>& out,
                 const Tensor<std::uint8_t>* token_mask) {
  const Index tokens = out.scores.dim(0), experts = o.n_routed_experts, real = real_tokens(token_mask, tokens);
  std::vector<T> total(experts, T(0));
  for (Index t = 0; t < tokens; ++t) {
    if (!is_real(token_mask, t)) continue;
    const std::vector<T> s = original_scores(o, out, t);
    const T divisor = normalizes(o) ? sum_of_scores<T>(scores, s) : T(1);
    for (Index e = 0; e < experts; ++e) total[e] += num.store(s[e] / divisor);
  }
  T loss = 0;
  for (Index e = 0; e < experts; ++e)
    loss += load_share<T>(o, out.expert_load[e], real) * (total[e] / T(std::max<Index>(real, 1)));
  return loss;
}

// Adds the gradient of alpha * aux to d, the gradient of one token's original scores.
template <class T, class F>
void add_auxiliary_gradient(const F& f, const Numerics<T>& scores, const RouterOptions& o, const RouterOutput<T>& out,
                            Index t, Index real, T alpha, std::span<T> d) {
  const std::vector<T> s = original_scores(o, out, t);
  std::vector<T> d_s(s.size());
  for (std::size_t e = 0; e < s.size(); ++e)
    d_s[e] = f(scores.store(alpha * load_share<T>(o, out.expert_load[e], real) / T(std::max<Index>(real, 1))));
  if (normalizes(o)) normalize_backward<T>(f, scores, s, d_s);
  for (std::size_t e = 0; e < s.size(); ++e) d[e] = scores.store(d[e] + d_s[e]);
}

// z_bar [T, E], or by terms.h the sums of f of its terms.
template <class T, class F>
Tensor<T> logit_gradients(const F& f, const Numerics<T>& num, const RouterOptions& options,
                          const Tensor<std::uint8_t>* token_mask, const RouterOutput<T>& out,
                          const Tensor<T>& d_weights, T aux_loss_scale) {
  const Index tokens = out.logits.dim(0), experts = options.n_routed_experts, k = options.num_experts_per_tok;
  if (d_weights.shape() != out.weights.shape())
    throw std::invalid_argument("router_backward: d_weights " + to_string(d_weights.shape()) + "; want " +
                                to_string(out.weights.shape()));
  const Numerics<T> float32 = num.unrounded();
  const Numerics<T>& gate = options.gate_in_float32 ? float32 : num;
  const Numerics<T> scores = score_numerics(num, options);
  const Index real = real_tokens(token_mask, tokens);
  const T lambda = T(options.routed_scaling_factor);
  const T alpha = T(options.aux_loss_coefficient) * aux_loss_scale;

  Tensor<T> d_logits({tokens, experts});
  for (Index t = 0; t < tokens; ++t) {
    const auto row = [&](const Tensor<T>& tensor) { return tensor.span().subspan(t * experts, experts); };
    const std::span<T> d = d_logits.span().subspan(t * experts, experts);
    // Through the scale and the normalisation to the chosen scores.
    const std::vector<T> chosen = chosen_scores(num, options, out, t);
    std::vector<T> d_chosen(k);
    for (Index j = 0; j < k; ++j) d_chosen[j] = f(scores.store(lambda * d_weights(t, j)));
    if (normalizes(options)) normalize_backward<T>(f, scores, chosen, d_chosen);
    // Through the score function to the logits.
    const bool chosen_softmax = options.score_function == ScoreFunction::softmax;
    if (!chosen_softmax)
      for (Index j = 0; j < k; ++j) d[out.indices(t, j)] = d_chosen[j];
    if (alpha > 0 && is_real(token_mask, t)) add_auxiliary_gradient<T>(f, scores, options, out, t, real, alpha, d);
    score_row_backward<T>(f, num, options.score_function, row(out.logits), row(out.scores), d);
    if (chosen_softmax) {
      score_row_backward<T>(f, num, ScoreFunction::softmax, {}, chosen, d_chosen);
      for (Index j = 0; j < k; ++j) d[out.indices(t, j)] += d_chosen[j];
    }
    for (T& value : d) value = gate.store(value);
  }
  return d_logits;
}

}  // namespace

template <class T>
RouterOutput<T> router_forward(const Numerics<T>& num, const RouterOptions& options, const ParameterScope<T>& p,
                               const Tensor<T>& x, const Tensor<std::uint8_t>* token_mask,
                               const Tensor<Index>* given_indices) {
  check(options);
  const Index experts = options.n_routed_experts, k = options.num_experts_per_tok;
  if (x.rank() != 2) throw std::invalid_argument("router_forward: x " + to_string(x.shape()) + "; want [T, D]");
  const Index tokens = x.dim(0);
  if (token_mask && token_mask->size() != tokens)
    throw std::invalid_argument("router_forward: token_mask " + to_string(token_mask->shape()) + "; want " +
                                to_string({tokens}));
  const Tensor<T>& weight = p.with_shape("weight", {experts, x.dim(1)});
  const Tensor<T>* beta = uses_correction_bias(options.score_function) ? p.find("e_score_correction_bias") : nullptr;
  if (given_indices) check_indices(options, *given_indices, tokens);

  const Numerics<T> float32 = num.unrounded();
  const Numerics<T>& gate = options.gate_in_float32 ? float32 : num;
  const Numerics<T> scores = score_numerics(num, options);
  RouterOutput<T> out;
  out.logits = linear_forward(gate, x, weight, p.find("bias"));
  out.scores = Tensor<T>({tokens, experts});
  out.selection_scores = Tensor<T>({tokens, experts});
  out.indices = Tensor<Index>({tokens, k});
  out.weights = Tensor<T>({tokens, k});
  out.expert_load = Tensor<Index>({experts});
  for (Index t = 0; t < tokens; ++t) {
    const auto row = [&](Tensor<T>& tensor) { return tensor.span().subspan(t * experts, experts); };
    const std::span<T> z = row(out.logits), s = row(out.scores), c = row(out.selection_scores);
    score_row<T>(gate, options.score_function, z, s);
    // Chosen by the logits themselves: their order is that of their softmax, and ties stay ties.
    const std::span<T> base = options.score_function == ScoreFunction::softmax ? z : s;
    for (Index e = 0; e < experts; ++e) c[e] = base[e] + (beta ? (*beta)[e] : T(0));

    std::vector<Index> chosen;
    if (given_indices) {
      chosen.assign(given_indices->data() + t * k, given_indices->data() + (t + 1) * k);
    } else if (has_groups(options)) {
      const std::vector<T> groups = group_scores<T>(options, c, beta != nullptr);
      const std::vector<T> masked = with_groups_dropped<T>(options, c, top_k<T>(groups, options.topk_group));
      chosen = top_k<T>(masked, k);
    } else {
      chosen = top_k<T>(c, k);
    }
    std::copy(chosen.begin(), chosen.end(), out.indices.data() + t * k);
    if (is_real(token_mask, t))
      for (Index e : chosen) ++out.expert_load[e];

    std::vector<T> w = chosen_scores(num, options, out, t);
    if (normalizes(options)) {
      const T total = sum_of_scores<T>(scores, w);
      for (T& value : w) value = scores.store(value / total);
    }
    for (Index j = 0; j < k; ++j) {
      const T scaled = scores.store(w[j] * T(options.routed_scaling_factor));
      out.weights(t, j) = options.weights_in_float32 ? scaled : num.store(scaled);
    }
  }
  if (options.aux_loss_coefficient > 0) out.aux_loss = auxiliary_loss(num, scores, options, out, token_mask);
  return out;
}

template <class T>
Tensor<T> router_backward(const Numerics<T>& num, const RouterOptions& options, const ParameterScope<T>& p,
                          const Tensor<T>& x, const Tensor<std::uint8_t>* token_mask, const RouterOutput<T>& out,
                          const Tensor<T>& d_weights, const GradientScope<T>& d_p, T aux_loss_scale) {
  const Tensor<T> d_logits = logit_gradients(Value<T>{}, num, options, token_mask, out, d_weights, aux_loss_scale);
  LinearGradients<T> gradients = linear_backward(num, x, p["weight"], d_logits, p.find("bias") != nullptr);
  d_p.add(num, "weight", std::move(gradients.weight));
  if (p.find("bias")) d_p.add(num, "bias", std::move(gradients.bias));
  return std::move(gradients.x);
}

template <class T>
RouterLogitTerms<T> router_logit_gradient_terms(const RouterOptions& options, const Tensor<std::uint8_t>* token_mask,
                                                const RouterOutput<T>& out, const Tensor<T>& d_weights,
                                                T aux_loss_scale) {
  const auto sums = [&](const auto& f) {
    return logit_gradients(f, Numerics<T>{}, options, token_mask, out, d_weights, aux_loss_scale);
  };
  return {sums(Absolute<T>{}), sums(Square<T>{})};
}

template <class T>
Tensor<T> router_choice_shortfall(const RouterOptions& options, const Tensor<T>& selection_scores,
                                  bool has_correction_bias, const Tensor<Index>& indices) {
  check(options);
  const Index tokens = selection_scores.dim(0), experts = options.n_routed_experts;
  check_indices(options, indices, tokens);
  // By how much the best expert left out beats the worst one chosen.
  const auto among = [&](std::span<const T> c, const std::vector<bool>& is_chosen) {
    T worst_in = std::numeric_limits<T>::infinity(), best_out = -worst_in;
    for (Index e = 0; e < static_cast<Index>(c.size()); ++e)
      is_chosen[e] ? void(worst_in = std::min(worst_in, c[e])) : void(best_out = std::max(best_out, c[e]));
    return best_out > worst_in ? best_out - worst_in : T(0);
  };
  Tensor<T> shortfall({tokens});
  for (Index t = 0; t < tokens; ++t) {
    const auto c = selection_scores.span().subspan(t * experts, experts);
    std::vector<bool> is_chosen(experts, false);
    for (Index j = 0; j < options.num_experts_per_tok; ++j) is_chosen[indices(t, j)] = true;
    if (!has_groups(options)) {
      shortfall[t] = among(c, is_chosen);
      continue;
    }
    // Either the router's own groups were kept, or those that the chosen experts come from.
    const std::vector<T> groups = group_scores<T>(options, c, has_correction_bias);
    std::vector<T> used_first = groups;
    for (Index e = 0; e < experts; ++e)
      if (is_chosen[e]) used_first[e / (experts / options.n_group)] = std::numeric_limits<T>::infinity();
    shortfall[t] = std::numeric_limits<T>::infinity();
    for (const std::vector<Index>& kept :
         {top_k<T>(groups, options.topk_group), top_k<T>(used_first, options.topk_group)}) {
      std::vector<bool> is_kept(options.n_group, false);
      for (Index group : kept) is_kept[group] = true;
      const std::vector<T> masked = with_groups_dropped<T>(options, c, kept);
      shortfall[t] = std::min(shortfall[t], std::max(among(groups, is_kept), among(masked, is_chosen)));
    }
  }
  return shortfall;
}

template <class T>
void update_correction_bias(Tensor<T>& bias, std::optional<Tensor<Index>>& load, double gamma) {
  if (!(gamma > 0))
    throw std::invalid_argument("update_correction_bias: gamma = " + std::to_string(gamma) + "; want > 0");
  if (!load) throw std::logic_error("update_correction_bias: no forward pass since the last update");
  if (load->size() != bias.size())
    throw std::invalid_argument("update_correction_bias: load of " + std::to_string(load->size()) + " experts; want " +
                                std::to_string(bias.size()));
  const Index total = std::accumulate(load->data(), load->data() + load->size(), Index{0});
  for (Index e = 0; e < bias.size(); ++e) {
    const Index excess = bias.size() * (*load)[e] - total;  // load above the mean, times E
    bias[e] += excess == 0 ? T(0) : excess < 0 ? T(gamma) : -T(gamma);
  }
  load.reset();
}

template <class T>
RouterOutput<T> fake_balanced_gate(const Numerics<T>& num, const RouterOptions& options, Index tokens) {
  check(options);
  const Index experts = options.n_routed_experts, k = options.num_experts_per_tok;
  RouterOutput<T> out;
  out.weights = Tensor<T>({tokens, k}, num.store(T(1) / T(k)));
  out.indices = Tensor<Index>({tokens, k});
  out.expert_load = Tensor<Index>({experts});
  for (Index slot = 0; slot < tokens * k; ++slot) {
    out.indices[slot] = slot % experts;
    ++out.expert_load[slot % experts];
  }
  return out;
}

#define ASSAY_INSTANTIATE(T)                                                                                      \
  template RouterOutput<T> router_forward(const Numerics<T>&, const RouterOptions&, const ParameterScope<T>&,     \
                                          const Tensor<T>&, const Tensor<std::uint8_t>*, const Tensor<Index>*);   \
  template Tensor<T> router_backward(const Numerics<T>&, const RouterOptions&, const ParameterScope<T>&,          \
                                     const Tensor<T>&, const Tensor<std::uint8_t>*, const RouterOutput<T>&,       \
                                     const Tensor<T>&, const GradientScope<T>&, T);                               \
  template RouterLogitTerms<T> router_logit_gradient_terms(const RouterOptions&, const Tensor<std::uint8_t>*,      \
                                                           const RouterOutput<T>&, const Tensor<T>&, T);          \
  template Tensor<T> router_choice_shortfall(const RouterOptions&, const Tensor<T>&, bool, const Tensor<Index>&); \
  template void update_correction_bias(Tensor<T>&, std::optional<Tensor<Index>>&, double);                        \
  template RouterOutput<T> fake_balanced_gate(const Numerics<T>&, const RouterOptions&, Index);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
