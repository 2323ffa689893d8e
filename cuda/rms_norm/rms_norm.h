// RMSNorm: block norms, final norm, the norms of multi-token prediction. Optionally adds the residual stream first.
//
//   h = rnd_R(hidden_states + residual)   (h = hidden_states without a residual)
//   rstd = 1 / sqrt(mean_i h_i^2 + eps)    out_hidden_states = rnd_T(weight h rstd)    out_residual = h
//
// All arithmetic is float; each output is rounded once. Sums have a fixed order: repeated runs agree bit for bit.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/common/method.h"

namespace assay::gpu {

struct RmsNormDims {
  std::int64_t rows;         // B * S in train and prefill, B in decode; 0 is fine
  std::int64_t hidden_size;  // 1 .. 2^30
  std::int64_t row_stride;   // elements from a row of the normed input to the next, >= hidden_size
};

// T: activations, R: residual stream (T or float), W: weight (T or float).
// Everything but the normed input is compact; outputs overlap no input.
template <class T, class R = T, class W = T>
struct RmsNormForward {
  const T* hidden_states;  // [rows, hidden_size], row_stride apart
  const R* residual;       // [rows, hidden_size] or null
  const W* weight;         // [hidden_size]
  float eps;
  T* out_hidden_states;  // [rows, hidden_size]
  R* out_residual;       // [rows, hidden_size], null iff residual is
  float* rstd;           // [rows], or null when no backward follows
};

// With xhat = h rstd, u = weight d_out, c = mean_i u_i xhat_i:
//   d = rstd (u - xhat c) + d_out_residual    d_weight = sum over rows of d_out xhat
template <class T, class R = T, class W = T>
struct RmsNormBackward {
  const R* normed;          // [rows, hidden_size], row_stride apart: hidden_states, or the forward's out_residual
  const W* weight;          // [hidden_size]
  const float* rstd;        // [rows], from the forward
  const T* d_out;           // [rows, hidden_size]
  const R* d_out_residual;  // [rows, hidden_size], or null for zero
  T* d_hidden_states;       // [rows, hidden_size] rnd_T(d)
  R* d_residual;            // [rows, hidden_size] rnd_R(d), or null if not wanted
  W* d_weight;              // [hidden_size], overwritten
  float* workspace;         // rms_norm_backward_workspace(dims) bytes
};

// Asynchronous on `stream`. Throw std::invalid_argument, before any launch, if an argument is unusable.
// Types <T, R, W>: <float>, <bf16>, and bf16 activations with a float residual, a float weight or both.
template <class T, class R, class W>
void rms_norm_forward(const RmsNormDims& dims, const RmsNormForward<T, R, W>& tensors, cudaStream_t stream,
                      Method method = Method::automatic);
template <class T, class R, class W>
void rms_norm_backward(const RmsNormDims& dims, const RmsNormBackward<T, R, W>& tensors, cudaStream_t stream,
                       Method method = Method::automatic);

std::size_t rms_norm_backward_workspace(const RmsNormDims& dims);

// The kernel variant for activations of `element_size` bytes whose pointers are all 16-byte aligned.
const char* rms_norm_variant(const RmsNormDims& dims, std::size_t element_size, Method method = Method::automatic);

}  // namespace assay::gpu
