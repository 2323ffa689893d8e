// Causal depthwise convolution with SiLU, the mixing over time in front of the Mamba-2 scan.
//
//   p[b, t, c] = bias[c] + sum_{j < K} weight[c, j] x[b, t - (K-1) + j, c]       y = silu(p)   (y = p without silu)
//
// Tap K-1 multiplies the present. x before the first token is 0, or the initial state [b, c, K-1], oldest first. With
// seq_idx [b, t] (document numbers) a tap counts only inside the document of t, and where seq_idx < 0 (padding) y is 0.
//
// Source: causal-conv1d: one fma per tap in float, oldest to newest, starting from the bias; one rounding of y. Backward with
// seq_idx < 0 is the true derivative, zero; upstream's kernel treats such tokens as real.
#pragma once

#include <cstdint>
#include <span>

#include "reference/numerics.h"
#include "reference/tensor.h"

namespace assay::reference {

template <class T>
struct CausalConv1dInputs {
  const Tensor<T>& x;                         // [batch, seq_len, channels]
  const Tensor<T>& weight;                    // [channels, K] or [channels, 1, K]
  const Tensor<T>* bias = nullptr;            // [channels]
  const Tensor<T>* initial_state = nullptr;   // [batch, channels, K - 1]; not together with seq_idx
  std::span<const std::int32_t> seq_idx = {}; // batch * seq_len numbers, or none
  bool silu = true;
};

template <class T>
struct CausalConv1dForward {
  Tensor<T> y;            // [batch, seq_len, channels]
  Tensor<T> final_state;  // [batch, channels, K - 1], the last columns of (initial state ++ x); empty with seq_idx
};

// Throws std::invalid_argument if shapes do not agree, or if seq_idx comes with an initial state.
template <class T>
CausalConv1dForward<T> causal_conv1d_forward(const Numerics<T>& num, const CausalConv1dInputs<T>& in);

template <class T>
struct CausalConv1dBackward {
  Tensor<T> d_x;
  Tensor<T> d_weight;         // in the shape of weight; summed over batch and time in a fixed order, rounded once
  Tensor<T> d_bias;           // empty without bias
  Tensor<T> d_initial_state;  // empty without initial_state
};

// dp = dy silu'(p), not rounded;  dx[t] = sum_j w_j dp[t + (K-1) - j];  dw_j = sum dp[t] x[t - (K-1) + j];  db = sum dp.
// d_final_state [batch, channels, K - 1] is added to the entries that the final state copies; null for zero.
template <class T>
CausalConv1dBackward<T> causal_conv1d_backward(const Numerics<T>& num, const CausalConv1dInputs<T>& in, const Tensor<T>& d_y,
                                               MaybeTensor<T> d_final_state = nullptr);

// One token: x [batch, channels], state [batch, channels, L >= K - 1], oldest first. Returns y [batch, channels]; the state
// moves left by one and takes x as its last column.
template <class T>
Tensor<T> causal_conv1d_update(const Numerics<T>& num, const Tensor<T>& x, Tensor<T>& state, const Tensor<T>& weight,
                               MaybeTensor<T> bias, bool silu = true);

}  // namespace assay::reference
