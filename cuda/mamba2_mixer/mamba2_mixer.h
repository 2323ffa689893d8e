// The Mamba-2 mixer, forward on its three paths and backward in training: in_proj, causal convolution, scan, gated
// norm, out_proj.
//
//   z | xBC | dt = (u m) in_proj^T      x | B | C = silu(conv(xBC))      y = scan(x, dt, B, C), A = -exp(A_log)
//   out = norm(y, z) out_proj^T
//
// The padding mask m multiplies the input alone: behind the convolution a padded token is a token like any other.
// Every tensor between two steps has type T and is rounded once; the steps' own pages say how they sum.
#pragma once

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "cuda/common/method.h"

namespace assay::gpu {

struct Mamba2MixerDims {
  std::int64_t batch;    // 0 is fine
  std::int64_t seq_len;  // 0 is fine, but for decode, where it is 1
  std::int64_t hidden_size;
  std::int64_t heads;
  std::int64_t head_dim;
  std::int64_t groups;  // divides heads; also those of the norm
  std::int64_t state_size;
  std::int64_t taps;  // of the convolution

  std::int64_t tokens() const { return batch * seq_len; }
  std::int64_t inner() const { return heads * head_dim; }
  std::int64_t conv_channels() const { return inner() + 2 * groups * state_size; }
  std::int64_t projected() const { return inner() + conv_channels() + heads; }
};

template <class T>
struct Mamba2MixerParams {
  const T* in_proj_weight;   // [projected, hidden_size]: rows of z [inner], xBC [conv_channels], dt [heads]
  const T* in_proj_bias;     // [projected], or null
  const T* conv_weight;      // [conv_channels, taps]
  const T* conv_bias;        // [conv_channels], or null
  const float* dt_bias;      // [heads]
  const float* A_log;        // [heads]
  const float* D;            // [heads]
  const T* norm_weight;      // [inner]
  const T* out_proj_weight;  // [hidden_size, inner]
  const T* out_proj_bias;    // [hidden_size], or null
  float eps;
  float dt_min = 0.0f, dt_max = HUGE_VALF;  // of Delta; decode has no such limits
};

// What is handed from step to step, all compact. A null pointer: it lies in the workspace and is lost.
template <class T>
struct Mamba2MixerTaps {
  T* masked = nullptr;     // [batch, seq_len, hidden_size], u m; not written without a mask
  T* projected = nullptr;  // [batch, seq_len, projected]
  float* A = nullptr;      // [heads]
  T* convolved = nullptr;  // [batch, seq_len, conv_channels]: x, B, C
  T* scanned = nullptr;    // [batch, seq_len, inner]: y
  T* normed = nullptr;     // [batch, seq_len, inner]
  float* rstd =
      nullptr;  // [groups, tokens] of the norm, for the backward; null: not written, as by decode's fused step
};

template <class T>
struct Mamba2MixerForward {
  const T* hidden_states;    // [batch, seq_len, hidden_size]
  const std::int32_t* mask;  // [batch, seq_len], 0 = padding; or null
  T* out;                    // [batch, seq_len, hidden_size]
  Mamba2MixerTaps<T> taps = {};
  void* workspace;  // mamba2_mixer_workspace(dims, sizeof(T)) bytes, 256-byte aligned
};

// T: activations, S: the cache of the scan's state.
template <class T, class S>
struct Mamba2MixerCache {
  T* conv_state;  // [batch, conv_channels, taps], oldest first: xBC before the convolution
  S* ssm_state;   // [batch, heads, head_dim, state_size]
};

// Training: no state comes in or goes out. seq_idx [batch, seq_len]: document numbers (causal_conv1d.h, ssd_scan.h), or
// null.
template <class T>
void mamba2_mixer_train_forward(const Mamba2MixerDims& dims, const Mamba2MixerParams<T>& params,
                                const Mamba2MixerForward<T>& tensors, const std::int32_t* seq_idx, cudaStream_t stream,
                                Method method = Method::automatic);

// Prefill: the cache's states are those after the last token: the last `taps` columns of xBC, the scan's final state.
// `continued`: it goes on from the states that the cache holds, so that two prefills equal one. Otherwise they are
// ignored and overwritten: the convolution and the scan start from zeros, and what xBC does not fill of conv_state is
// zero, but a single token still moves conv_state left by one, as upstream's does.
template <class T, class S>
void mamba2_mixer_prefill(const Mamba2MixerDims& dims, const Mamba2MixerParams<T>& params,
                          const Mamba2MixerForward<T>& tensors, const Mamba2MixerCache<T, S>& cache, bool continued,
                          cudaStream_t stream, Method method = Method::automatic);

// One token of each batch row; both states move on by it.
template <class T, class S>
void mamba2_mixer_decode(const Mamba2MixerDims& dims, const Mamba2MixerParams<T>& params,
                         const Mamba2MixerForward<T>& tensors, const Mamba2MixerCache<T, S>& cache, cudaStream_t stream,
                         Method method = Method::automatic);

// Gradients of the parameters: their shapes, and null iff they are. Overwritten.
template <class T>
struct Mamba2MixerParamGradients {
  T* in_proj_weight;
  T* in_proj_bias;
  T* conv_weight;
  T* conv_bias;
  float* dt_bias;
  float* A_log;  // dA A
  float* D;
  T* norm_weight;
  T* out_proj_weight;
  T* out_proj_bias;
};

template <class T>
struct Mamba2MixerBackward {
  const T* hidden_states;  // as in the forward
  const std::int32_t* mask;
  const std::int32_t* seq_idx;
  // What the forward saves for it: all its taps but masked, as it wrote them. u m is cheaper to form again.
  Mamba2MixerTaps<T> saved;
  const T* d_out;      // [batch, seq_len, hidden_size]
  T* d_hidden_states;  // [batch, seq_len, hidden_size]; zeros where the mask is
  Mamba2MixerParamGradients<T> d_params;
  // The gradients of the taps, which lie as they do; masked: only with a mask, rstd: none. Null: in the workspace.
  Mamba2MixerTaps<T> d_taps = {};
  void* workspace;  // mamba2_mixer_backward_workspace(dims, sizeof(T), method) bytes, 256-byte aligned
};

// The gradients of mamba2_mixer_train_forward: the steps' own backwards, from the last to the first. Every gradient
// between two steps has type T and is rounded once (dA: float). A masked token passes none to hidden_states, but the
// parameters behind in_proj's weight see it as any other.
template <class T>
void mamba2_mixer_train_backward(const Mamba2MixerDims& dims, const Mamba2MixerParams<T>& params,
                                 const Mamba2MixerBackward<T>& tensors, cudaStream_t stream,
                                 Method method = Method::automatic);

// Asynchronous on `stream`. They throw std::invalid_argument, before any launch of the step whose argument is unusable,
// and what linear_forward and linear_backward throw. Types: T float or bf16; S = float or bf16.

// Copies what both have: a forward writes each tap once, but a caller may want to look at what it saves.
template <class T>
void mamba2_mixer_copy_taps(const Mamba2MixerDims& dims, const Mamba2MixerTaps<T>& from, const Mamba2MixerTaps<T>& to,
                            cudaStream_t stream);

// The variant of the scan's kernels: "naive" or "chunked".
const char* mamba2_mixer_scan_variant(const Mamba2MixerDims& dims, std::size_t element_size,
                                      Method method = Method::automatic);
const char* mamba2_mixer_backward_scan_variant(const Mamba2MixerDims& dims, std::size_t element_size,
                                               Method method = Method::automatic);

// Of the three paths forward.
std::size_t mamba2_mixer_workspace(const Mamba2MixerDims& dims, std::size_t element_size);
std::size_t mamba2_mixer_backward_workspace(const Mamba2MixerDims& dims, std::size_t element_size,
                                            Method method = Method::automatic);

}  // namespace assay::gpu
