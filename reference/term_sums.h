// What sums are made of. For an output s = sum_k t_k the limits on its rounding error need sum_k |t_k| and sum_k t_k^2; where
// the terms are products of inputs, both are the operation itself on absolute values and on squares. Beside these:
// attention_terms and attention_backward_terms (attention.h), router_logit_gradient_terms (router.h), layer_term_sums.h.
#pragma once

#include "reference/causal_conv1d.h"
#include "reference/cross_entropy.h"
#include "reference/ssd_scan.h"
#include "reference/ssm_state_update.h"
#include "reference/tensor.h"

namespace assay::reference {

template <class T>
struct TermSums {
  Tensor<T> absolute, squares;  // the shape of the output
};

// y = x W^T + b of linear_forward; its gradients dx = dy W, dW = dy^T x, db = sum over tokens of dy. x [.., in], weight [out, in], d_y [.., out].
template <class T>
TermSums<T> linear_term_sums(const Tensor<T>& x, const Tensor<T>& weight, MaybeTensor<T> bias = nullptr);
template <class T>
TermSums<T> linear_input_gradient_term_sums(const Tensor<T>& weight, const Tensor<T>& d_y);
template <class T>
TermSums<T> linear_weight_gradient_term_sums(const Tensor<T>& x, const Tensor<T>& d_y);
template <class T>
TermSums<T> linear_bias_gradient_term_sums(const Tensor<T>& d_y);

// The convolution before its SiLU.
template <class T>
TermSums<T> causal_conv1d_term_sums(const CausalConv1dInputs<T>& in);

// Of causal_conv1d_backward: terms of d_x and d_initial_state are w dp and the final state's gradient, of d_weight dp x, of
// d_bias dp. dp = d_y silu'(p) counts as one number. Empty where the gradient is.
template <class T>
struct CausalConv1dBackwardTermSums {
  TermSums<T> d_x, d_weight, d_bias, d_initial_state;
};
template <class T>
CausalConv1dBackwardTermSums<T> causal_conv1d_backward_term_sums(const CausalConv1dInputs<T>& in, const Tensor<T>& d_y,
                                                                 MaybeTensor<T> d_final_state = nullptr);

// y before its gate, and the final state: terms C_n exp(..) Delta B_n x over tokens and states, the initial state's and D x.
template <class T>
struct SsdScanTermSums {
  TermSums<T> y, final_state;
};
template <class T>
SsdScanTermSums<T> ssd_scan_term_sums(const SsdScanInputs<T>& in);

// Of ssd_scan_backward. A term has one token j whose x_j B_j goes in (or the initial state), one token i >= j whose dy_i C_i
// takes it out (or d_final_state), and all decays between; terms of d_dt, d_dt_bias and d_A also the token m at whose Delta
// they are taken: its own input's, j = m, and A times everything that it decays, j < m <= i. dy = d_y silu(z). Empty where the
// gradient is. Time and heap are those of the recurrence, of one channel at a time.
template <class T>
struct SsdScanBackwardTermSums {
  TermSums<T> d_x, d_dt, d_A, d_B, d_C, d_D, d_z, d_dt_bias, d_initial_state;
};
template <class T>
SsdScanBackwardTermSums<T> ssd_scan_backward_term_sums(const SsdScanInputs<T>& in, const Tensor<T>& d_y,
                                                       MaybeTensor<T> d_final_state = nullptr);

// Of gated_rms_norm_backward. Terms of d_hidden_states: rstd u_j and rstd vhat_j u_k vhat_k / group_size for every k of the
// group, times silu(gate); of d_gate the same times hidden_states silu'(gate); of d_weight dy vhat over rows. rstd, v and the
// gate's functions count as one number each, as in forward, whose only sum, of squares, has no other terms than itself.
template <class T>
struct NormBackwardTermSums {
  TermSums<T> d_hidden_states, d_gate, d_weight;  // d_gate: empty without a gate
};
template <class T>
NormBackwardTermSums<T> gated_rms_norm_backward_term_sums(const Tensor<T>& hidden_states, MaybeTensor<T> gate,
                                                          const Tensor<T>& weight, const Tensor<T>& rstd, const Tensor<T>& d_y,
                                                          Index group_size);
// Of rms_norm_backward: one group, and d_residual_out one more term.
template <class T>
NormBackwardTermSums<T> rms_norm_backward_term_sums(const Tensor<T>& h, const Tensor<T>& weight, const Tensor<T>& rstd,
                                                    const Tensor<T>& d_y, MaybeTensor<T> d_residual_out = nullptr);

// y before its gate, and the state afterwards: terms C_n h_n exp(..), C_n B_n Delta x and D x. A row of the state that is not
// updated is one term. state: before the step.
template <class T>
struct SsmStateUpdateTermSums {
  TermSums<T> y, state;
};
template <class T>
SsmStateUpdateTermSums<T> ssm_state_update_term_sums(const SsmStateUpdateInputs<T>& in, const Tensor<T>& state);

// Of embedding_backward's d_weight: terms d_y[t] of the tokens with that id.
template <class T>
TermSums<T> embedding_gradient_term_sums(std::span<const std::int64_t> ids, const Tensor<T>& d_y, Index vocabulary);

// Of the cross entropy's sum, shape [1]: terms lse_t and -logits[t, target_t]. Of its gradient: scale softmax and -scale onehot.
template <class T>
TermSums<T> cross_entropy_term_sums(const Tensor<T>& logits, const Tensor<Index>& targets, const CrossEntropy<T>& forward);
template <class T>
TermSums<T> cross_entropy_gradient_term_sums(const Tensor<T>& logits, const Tensor<Index>& targets,
                                             const CrossEntropy<T>& forward, std::type_identity_t<T> scale);

}  // namespace assay::reference
