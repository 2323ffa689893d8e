// @OP@: what the launcher needs to know. Host only.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

//   v = hidden_states silu(gate)   (v = hidden_states without a gate)
//   out_hidden_states = weight v / sqrt(mean of v^2 over its group + eps)
// T: activations and weight. A group is group_size neighbouring channels; group_size divides width.
template <class T>
struct GatedRmsNorm {
  std::int64_t rows, width, group_size;
  std::int64_t row_stride, gate_row_stride;  // of hidden_states and gate; everything else is compact
  const T* hidden_states;                    // [rows, width]
  const T* gate;                             // [rows, width] or null
  const T* weight;                           // [width]
  float eps;
  T* out_hidden_states;  // [rows, width]
};

// float and bf16. Asynchronous on `stream`.
template <class T>
void launch_gated_rms_norm(const GatedRmsNorm<T>& p, cudaStream_t stream);
