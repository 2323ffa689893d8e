// A block of the backbone whose mixer is the Mamba-2 layer, in training:
//
//   out = hidden_states + mixer(rms_norm(hidden_states))
//
// T: weights, activations and the stream that comes in. R: the stream that goes out, T or float (residual_in_fp32).
// Composed of cuda/rms_norm, cuda/mamba2_mixer and the sum, which is rounded to R once. Within a model the sum is the
// next norm's (rms_norm.h); a block alone has none behind it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/mamba2_mixer/mamba2_mixer.h"

namespace assay::gpu {

// What is handed from step to step, compact [batch, seq_len, hidden_size]. A null pointer: it lies in the workspace.
template <class T>
struct Mamba2BlockTaps {
  T* input_normed = nullptr;  // the mixer's input
  float* rstd = nullptr;      // [tokens]; null: not written
  T* mixed = nullptr;         // the mixer's output; of a backward: not used
  Mamba2MixerTaps<T> mixer = {};
};

template <class T, class R>
struct Mamba2BlockForward {
  const T* hidden_states;       // [batch, seq_len, hidden_size]
  const T* norm_weight;         // [hidden_size]; eps is the mixer's
  const std::int32_t* mask;     // as the mixer's; null: every token is real
  const std::int32_t* seq_idx;  // as the mixer's, or null
  R* out;                       // [batch, seq_len, hidden_size]
  Mamba2BlockTaps<T> taps = {};
  void* workspace;  // mamba2_block_workspace(dims, sizeof(T)) bytes, 256-byte aligned
};

template <class T, class R>
void mamba2_block_train_forward(const Mamba2MixerDims& dims, const Mamba2MixerParams<T>& mixer,
                                const Mamba2BlockForward<T, R>& tensors, cudaStream_t stream,
                                Method method = Method::automatic);

template <class T, class R>
struct Mamba2BlockBackward {
  const T* hidden_states;  // as in the forward
  const T* norm_weight;
  const std::int32_t* mask;
  const std::int32_t* seq_idx;
  Mamba2BlockTaps<T> saved;  // of the forward: input_normed, rstd, and what the mixer's backward reads
  const R* d_out;            // [batch, seq_len, hidden_size]
  T* d_hidden_states;        // [batch, seq_len, hidden_size]
  T* d_norm_weight;          // [hidden_size], overwritten
  Mamba2MixerParamGradients<T> d_mixer;
  Mamba2BlockTaps<T> d_taps = {};
  void* workspace;  // mamba2_block_backward_workspace(dims, sizeof(T), method) bytes, 256-byte aligned
};

// d_hidden_states = rnd_T(norm backward(mixer backward(rnd_T(d_out))) + rnd_T(d_out))
template <class T, class R>
void mamba2_block_train_backward(const Mamba2MixerDims& dims, const Mamba2MixerParams<T>& mixer,
                                 const Mamba2BlockBackward<T, R>& tensors, cudaStream_t stream,
                                 Method method = Method::automatic);

// Asynchronous on `stream`. They throw std::invalid_argument, before any launch of the step whose argument is unusable.
// Types <T, R>: <float, float>, <bf16, bf16>, <bf16, float>.

// Copies what both have, as mamba2_mixer_copy_taps.
template <class T>
void mamba2_block_copy_taps(const Mamba2MixerDims& dims, const Mamba2BlockTaps<T>& from, const Mamba2BlockTaps<T>& to,
                            cudaStream_t stream);

std::size_t mamba2_block_workspace(const Mamba2MixerDims& dims, std::size_t element_size);
std::size_t mamba2_block_backward_workspace(const Mamba2MixerDims& dims, std::size_t element_size,
                                            Method method = Method::automatic);

}  // namespace assay::gpu
