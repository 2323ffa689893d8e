// Gated group RMSNorm: the norm after the Mamba-2 scan. The gate is applied before the norm, each group of group_size
// neighbouring channels is normed on its own.
//
//   v = hidden_states silu(gate)   (v = hidden_states without a gate)
//   rstd = 1 / sqrt(mean_{j in group} v_j^2 + eps)    out = rnd_T(weight v rstd)
//
// All arithmetic is float; each output is rounded once. Sums have a fixed order: repeated runs agree bit for bit.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/common/method.h"

namespace assay::gpu {

struct GatedRmsNormDims {
  std::int64_t rows;         // B * S in train and prefill, B in decode; 0 is fine
  std::int64_t width;        // 1 .. 2^30
  std::int64_t group_size;   // divides width
  std::int64_t row_stride;   // elements from a row of hidden_states to the next, >= width
  std::int64_t gate_stride;  // the same of gate (a slice of in_proj's output, say); without a gate >= width, too

  std::int64_t groups() const { return width / group_size; }
};

// T: activations, W: weight (T or float). Everything but hidden_states and gate is compact; outputs overlap no input.
template <class T, class W = T>
struct GatedRmsNormForward {
  const T* hidden_states;  // [rows, width], row_stride apart
  const T* gate;           // [rows, width], gate_stride apart, or null
  const W* weight;         // [width]
  float eps;
  T* out;       // [rows, width]
  float* rstd;  // [groups, rows], or null when no backward follows
};

// With vhat = v rstd, u = weight d_out, c = mean_{j in group} u_j vhat_j, d_v = rstd (u - vhat c):
//   d_hidden_states = d_v silu(gate)   d_gate = d_v hidden_states silu'(gate)   d_weight = sum over rows of d_out vhat
template <class T, class W = T>
struct GatedRmsNormBackward {
  const T* hidden_states;  // as in the forward
  const T* gate;
  const W* weight;
  const float* rstd;   // [groups, rows], from the forward
  const T* d_out;      // [rows, width]
  T* d_hidden_states;  // [rows, width]
  T* d_gate;           // [rows, width], null iff gate is
  W* d_weight;         // [width], overwritten
  float* workspace;    // gated_rms_norm_backward_workspace(dims) bytes
};

// Asynchronous on `stream`. Throw std::invalid_argument, before any launch, if an argument is unusable.
// Types <T, W>: <float>, <bf16>, <bf16, float>.
template <class T, class W>
void gated_rms_norm_forward(const GatedRmsNormDims& dims, const GatedRmsNormForward<T, W>& tensors, cudaStream_t stream,
                            Method method = Method::automatic);
template <class T, class W>
void gated_rms_norm_backward(const GatedRmsNormDims& dims, const GatedRmsNormBackward<T, W>& tensors,
                             cudaStream_t stream, Method method = Method::automatic);

std::size_t gated_rms_norm_backward_workspace(const GatedRmsNormDims& dims);

// The kernel variant for activations of `element_size` bytes whose pointers are all 16-byte aligned.
const char* gated_rms_norm_variant(const GatedRmsNormDims& dims, std::size_t element_size,
                                   Method method = Method::automatic);

}  // namespace assay::gpu
