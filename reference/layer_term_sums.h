// What the sums of MLP, router and experts are made of (term_sums.h). Between two products a layer stores what it has: h, the
// activation, their gradients count as one number each, so that each sum here has one product in it.
#pragma once

#include "reference/mlp.h"
#include "reference/moe_experts.h"
#include "reference/term_sums.h"

namespace assay::reference {

// A projection's output (projection.h): y, or the router's logits.
template <class T>
TermSums<T> projection_term_sums(const ParameterScope<T>& p, const Tensor<T>& x);

// Of its gradients.
template <class T>
struct ProjectionBackwardTermSums {
  TermSums<T> d_x, d_weight, d_bias;  // d_bias: empty without a bias
};
template <class T>
ProjectionBackwardTermSums<T> projection_backward_term_sums(const ParameterScope<T>& p, const Tensor<T>& x, const Tensor<T>& d_y);

// Of mlp_forward.
template <class T>
struct MlpTermSums {
  TermSums<T> h, y;
};
template <class T>
MlpTermSums<T> mlp_term_sums(const ParameterScope<T>& p, const Tensor<T>& hidden_states, const MlpSaved<T>& saved);

// Of mlp_backward: d_x of `down` is the gradient of the activation, of `up` that of hidden_states.
template <class T>
struct MlpBackwardTermSums {
  ProjectionBackwardTermSums<T> down, up;
};
template <class T>
MlpBackwardTermSums<T> mlp_backward_term_sums(const ParameterScope<T>& p, const Tensor<T>& hidden_states,
                                              const MlpSaved<T>& saved, const Tensor<T>& d_out);

// Of experts_forward, arguments as there; h: what it returned. Terms of acc: over the token's experts and their activations,
// and the experts' down biases.
template <class T>
struct ExpertTermSums {
  TermSums<T> h, acc;  // [slots, Fm], [T, Dl]
};
template <class T>
ExpertTermSums<T> experts_term_sums(bool weight_after_down, const ParameterScope<T>& p, const ExpertPermutation& permutation,
                                    const Tensor<T>& latent, const Tensor<T>& weights, const Tensor<T>& h);

// Of experts_backward. Terms of d_weights: those of the dot product that weighs; of d_latent: over the token's experts.
template <class T>
struct ExpertBackwardTermSums {
  TermSums<T> d_a, d_latent, d_weights, d_up, d_down, d_up_bias, d_down_bias;  // d_a [slots, Fm]; biases: empty if absent
};
template <class T>
ExpertBackwardTermSums<T> experts_backward_term_sums(bool weight_after_down, const ParameterScope<T>& p,
                                                     const ExpertPermutation& permutation, const Tensor<T>& latent,
                                                     const Tensor<T>& weights, const Tensor<T>& h, const Tensor<T>& d_acc);

}  // namespace assay::reference
