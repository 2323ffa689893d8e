// Causal depthwise convolution over time, with SiLU or without: the mixing in front of the Mamba-2 scan.
//
//   p[b, t, c] = bias[c] + sum_{j < taps} weight[c, j] x[b, t - (taps - 1) + j, c]
//   out = rnd_T(silu(p)), or rnd_T(p)
//
// x before the first token is 0, or the initial state, oldest first. With seq_idx [b, t] (document numbers) a tap
// counts only inside the document of t; where seq_idx < 0 (padding) out is 0 and nothing passes a gradient.
//
// All arithmetic is float: p by one fma per tap, oldest to newest, starting from the bias; each output is rounded once.
// Sums have a fixed order: repeated runs agree bit for bit.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/common/method.h"

namespace assay::gpu {

struct CausalConv1dDims {
  std::int64_t batch;       // 0 is fine
  std::int64_t seq_len;     // 0 is fine
  std::int64_t channels;    // 1 .. 2^30
  std::int64_t taps;        // >= 1
  std::int64_t row_stride;  // elements from a token of hidden_states to the next, >= channels (a slice of in_proj's
                            // output, say); batch rows lie seq_len * row_stride apart

  std::int64_t past() const { return taps - 1; }  // tokens before the present that an output needs
};

// What forward and backward read. Everything but hidden_states is compact.
template <class T>
struct CausalConv1dInputs {
  const T* hidden_states;       // x [batch, seq_len, channels], row_stride apart
  const T* weight;              // [channels, taps]; the last tap multiplies the present
  const T* bias;                // [channels], or null for 0
  const T* initial_state;       // [batch, channels, taps - 1], or null for 0
  const std::int32_t* seq_idx;  // [batch, seq_len], or null: each batch row is one document. Not with any state
  bool silu;
};

// Outputs overlap no input.
template <class T>
struct CausalConv1dForward {
  CausalConv1dInputs<T> in;
  T* out;          // [batch, seq_len, channels]
  T* final_state;  // [batch, channels, taps - 1], the last columns of (initial state, x); or null
};

// With dp = d_out silu'(p) (d_out without silu), not rounded:
//   d_hidden_states[t] = sum_j weight_j dp[t + (taps - 1) - j], plus d_final_state where the final state copies x[t]
//   d_initial_state: likewise    d_weight_j = sum_{b, t} dp[t] x[t - (taps - 1) + j]    d_bias = sum_{b, t} dp[t]
template <class T>
struct CausalConv1dBackward {
  CausalConv1dInputs<T> in;
  const T* d_out;             // [batch, seq_len, channels]
  const T* d_final_state;     // [batch, channels, taps - 1], or null for 0
  T* d_hidden_states;         // [batch, seq_len, channels], d_row_stride apart
  std::int64_t d_row_stride;  // >= channels
  T* d_weight;                // [channels, taps], overwritten
  T* d_bias;                  // [channels], overwritten; null iff bias is
  T* d_initial_state;         // [batch, channels, taps - 1], or null; needs initial_state
  float* workspace;           // causal_conv1d_backward_workspace(dims) bytes
};

// One token of each batch row (decode). `seq_len` of the dims is 1.
template <class T>
struct CausalConv1dUpdate {
  const T* hidden_states;  // [batch, channels], row_stride apart
  T* state;  // [batch, channels, state_len], oldest first; moves left by one and takes x as its last column
  std::int64_t state_len;  // >= taps - 1; columns before the last taps - 1 are kept but not read
  const T* weight;         // [channels, taps]
  const T* bias;           // [channels], or null
  bool silu;
  T* out;  // [batch, channels]
};

// Asynchronous on `stream`. Throw std::invalid_argument, before any launch, if an argument is unusable.
// T: float, bf16.
template <class T>
void causal_conv1d_forward(const CausalConv1dDims& dims, const CausalConv1dForward<T>& tensors, cudaStream_t stream,
                           Method method = Method::automatic);
template <class T>
void causal_conv1d_backward(const CausalConv1dDims& dims, const CausalConv1dBackward<T>& tensors, cudaStream_t stream,
                            Method method = Method::automatic);
template <class T>
void causal_conv1d_update(const CausalConv1dDims& dims, const CausalConv1dUpdate<T>& tensors, cudaStream_t stream,
                          Method method = Method::automatic);

std::size_t causal_conv1d_backward_workspace(const CausalConv1dDims& dims);

// The kernel variant for activations of `element_size` bytes whose pointers are all 16-byte aligned.
const char* causal_conv1d_variant(const CausalConv1dDims& dims, std::size_t element_size,
                                  Method method = Method::automatic);
const char* causal_conv1d_update_variant(const CausalConv1dDims& dims, std::int64_t state_len,
                                         Method method = Method::automatic);

}  // namespace assay::gpu
