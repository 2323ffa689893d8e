// @OP@: what the launcher needs to know. Host only.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

//   h = hidden_states + residual, rounded to R (h = hidden_states without a residual)
//   out_hidden_states = weight h / sqrt(mean_i h_i^2 + eps)    out_residual = h
// T: activations and weight, R: residual stream.
template <class T, class R>
struct RmsNorm {
  std::int64_t rows, width;
  std::int64_t row_stride;  // of hidden_states; everything else is compact
  const T* hidden_states;   // [rows, width]
  const R* residual;        // [rows, width] or null
  const T* weight;          // [width]
  float eps;
  T* out_hidden_states;  // [rows, width]
  R* out_residual;       // [rows, width], null iff residual is
};

// <float, float>, <bf16, bf16> and <bf16, float>. Asynchronous on `stream`.
template <class T, class R>
void launch_rms_norm(const RmsNorm<T, R>& p, cudaStream_t stream);
