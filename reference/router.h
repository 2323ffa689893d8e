// The router: which experts a token goes to, and with what weights.
//
//   z = x Wg^T + b      s = score(z)      c = s + beta      I = the k largest c      w = scale * s[I] / sum s[I]
//
// Parameters, of a scope such as "mixer.gate.":  weight [E, D]   bias [E], optional   e_score_correction_bias [E],
// optional, float32, without gradient.
#pragma once

#include <optional>

#include "reference/numerics.h"
#include "reference/parameters.h"
#include "reference/tensor.h"

namespace assay::reference {

enum class ScoreFunction {
  sigmoid,              // Nemotron's. Groups: dropped ones are multiplied by 0
  sigmoid_with_bias,    // groups: dropped ones become -inf
  softmax,              // chosen by z, weights are the softmax of the chosen logits. No groups, no correction bias
  softmax_before_topk,  // chosen and weighted by the softmax of all. No groups, no correction bias
  softmax_with_bias,    // groups as sigmoid
  sqrtsoftplus,         // sqrt(softplus(z)). No groups
};

struct RouterOptions {
  Index n_routed_experts = 8;     // E
  Index num_experts_per_tok = 2;  // k
  Index n_group = 1;              // g
  Index topk_group = 1;           // kg, groups kept
  ScoreFunction score_function = ScoreFunction::sigmoid;
  bool norm_topk_prob = true;  // acts only for k > 1
  double routed_scaling_factor = 1;
  bool gate_in_float32 = true;               // false: logits and sigmoid scores are rounded to the model's dtype
  bool weights_in_float32 = false;           // true: the weights leave unrounded
  bool weight_uses_correction_bias = false;  // sigmoid: weights and original scores are s + beta
  double aux_loss_coefficient = 0;           // alpha
  // Hugging Face's choices where they differ.
  bool drop_groups_by_infinity = false;
  bool normalize_single_expert = false;
};

template <class T>
struct RouterOutput {
  Tensor<T> weights;          // [T, k]
  Tensor<Index> indices;      // [T, k], by descending selection score; of equal ones the lower index first
  Tensor<Index> expert_load;  // [E], tokens of the token mask that chose the expert
  T aux_loss = 0;             // 0 without a coefficient
  // Kept for the backward pass and for judging another's choice.
  Tensor<T> logits;            // z [T, E]
  Tensor<T> scores;            // s [T, E]
  Tensor<T> selection_scores;  // c [T, E], before groups are dropped
};

// x [T, D]   token_mask [T], null: all tokens are real   given_indices [T, k], null: the router chooses
// Throws std::invalid_argument for sizes that cannot be, or indices outside [0, E) or repeated.
template <class T>
RouterOutput<T> router_forward(const Numerics<T>& num, const RouterOptions& options, const ParameterScope<T>& p,
                               const Tensor<T>& x, const Tensor<std::uint8_t>* token_mask = nullptr,
                               const Tensor<Index>* given_indices = nullptr);

// d_weights [T, k] is the gradient of the weights. Returns the gradient of x [T, D]; gradients of weight and bias go to
// d_p. The auxiliary loss adds aux_loss_coefficient * aux_loss_scale times its own gradient.
template <class T>
Tensor<T> router_backward(const Numerics<T>& num, const RouterOptions& options, const ParameterScope<T>& p,
                          const Tensor<T>& x, const Tensor<std::uint8_t>* token_mask, const RouterOutput<T>& out,
                          const Tensor<T>& d_weights, const GradientScope<T>& d_p, T aux_loss_scale = 1);

// Of the gradient of the logits, which router_backward takes from there as one number each: sums of its terms' absolute
// values and squares. Normalised weights and softmax scores each take a mean off; every part of a mean is a term.
template <class T>
struct RouterLogitTerms {
  Tensor<T> absolute, squares;  // [T, E]
};
template <class T>
RouterLogitTerms<T> router_logit_gradient_terms(const RouterOptions& options, const Tensor<std::uint8_t>* token_mask,
                                                const RouterOutput<T>& out, const Tensor<T>& d_weights,
                                                T aux_loss_scale = 1);

// How far a choice of experts is from being the router's own, for every token: 0 where it is, otherwise the largest
// difference of selection (or group) scores that would have to be forgiven. Compares sets; order does not matter.
template <class T>
Tensor<T> router_choice_shortfall(const RouterOptions& options, const Tensor<T>& selection_scores,
                                  bool has_correction_bias, const Tensor<Index>& indices);

// The update of the correction bias between steps: beta += gamma * sign(mean load - load), sign(0) = 0. The load is
// the sum over all forward passes since the last update; it is none afterwards.
// Throws std::invalid_argument if gamma is not above 0, std::logic_error if there was no forward pass.
template <class T>
void update_correction_bias(Tensor<T>& bias, std::optional<Tensor<Index>>& load, double gamma);

// The benchmarks' router that looks at nothing: weights 1/k, indices (t k + j) mod E.
template <class T>
RouterOutput<T> fake_balanced_gate(const Numerics<T>& num, const RouterOptions& options, Index tokens);

}  // namespace assay::reference
