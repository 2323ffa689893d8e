// The routed experts alone: each slot (token t, choice j) through its expert, the results of a
// token added up. Also what one rank of an expert-parallel group computes.
#pragma once

#include <vector>

#include "reference/parameters.h"

namespace assay::reference {

// Slots t k + j of real tokens whose expert is one of [first, last), sorted by expert and then by token.
struct ExpertPermutation {
  std::vector<Index> slots;
  std::vector<Index> offsets;  // [E + 1]
};
ExpertPermutation permute_by_expert(const Tensor<Index>& indices, const Tensor<std::uint8_t>* token_mask, Index experts,
                                    Index first, Index last);

// Returns acc [T, Dl], not yet rounded; h receives the pre-activations [slots, Fm].
// latent [T, Dl]   weights [T, k]   p: a scope such as "mixer.experts."
template <class T>
Tensor<T> experts_forward(const Numerics<T>& num, bool weight_after_down, const ParameterScope<T>& p,
                          const ExpertPermutation& permutation, const Tensor<T>& latent, const Tensor<T>& weights,
                          Tensor<T>& h);

template <class T>
struct ExpertGradients {
  Tensor<T> latent;   // [T, Dl]
  Tensor<T> weights;  // [T, k]
};
// d_acc [T, Dl] is the gradient of the rounded acc.
template <class T>
ExpertGradients<T> experts_backward(const Numerics<T>& num, bool weight_after_down, const ParameterScope<T>& p,
                                    const ExpertPermutation& permutation, const Tensor<T>& latent,
                                    const Tensor<T>& weights, const Tensor<T>& h, const Tensor<T>& d_acc,
                                    const GradientScope<T>& d_p);

}  // namespace assay::reference
