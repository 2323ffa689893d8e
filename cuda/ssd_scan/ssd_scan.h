// The state space scan of Mamba-2 (SSD), forward. For every batch row and head h of group g = h / (heads / groups):
//
//   Delta_t = min(max(softplus(dt_t + dt_bias), dt_min), dt_max)
//   state_t = kappa_t exp(Delta_t A) state_{t-1} + Delta_t x_t B_t^T          [head_dim, state_size]
//   y_t     = rnd_T((state_t C_t + D x_t) (silu(z_t)))
//
// kappa_t = 1 without seq_idx; with it the state is dropped before the first token of a document: kappa_t = [seq_idx_t
// = seq_idx_{t-1}], kappa_0 = [seq_idx_0 = 0], since 0 continues the initial state.
//
// Sums are float and have a fixed order: repeated runs agree bit for bit.
#pragma once

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "cuda/common/method.h"
#include "cuda/common/scalars.h"

namespace assay::gpu {

// Strides count elements from a token to the next; batch rows follow each other, seq_len strides apart.
struct SsdScanDims {
  std::int64_t batch;    // 0 is fine
  std::int64_t seq_len;  // 0: no y, the final state is the initial one
  std::int64_t heads;
  std::int64_t head_dim;
  std::int64_t groups;  // divides heads
  std::int64_t state_size;
  std::int64_t x_stride;   // >= heads * head_dim
  std::int64_t dt_stride;  // >= heads
  std::int64_t B_stride;   // >= groups * state_size
  std::int64_t C_stride;   // >= groups * state_size
  std::int64_t z_stride;   // >= heads * head_dim, without a gate, too
};

template <class T>
struct SsdScanForward {
  const T* x;      // [batch, seq_len, heads, head_dim], x_stride apart
  Scalars dt;      // [batch, seq_len, heads], dt_stride apart; raw
  const float* A;  // [heads], negative
  const T* B;      // [batch, seq_len, groups, state_size], B_stride apart
  const T* C;      // [batch, seq_len, groups, state_size], C_stride apart
  Scalars D = {};  // [heads], or [heads, head_dim]; or none
  bool D_per_channel = false;
  const T* z = nullptr;                   // [batch, seq_len, heads, head_dim], z_stride apart; or null
  Scalars dt_bias = {};                   // [heads], or none
  Scalars initial_state = {};             // [batch, heads, head_dim, state_size], or none: zeros
  const std::int32_t* seq_idx = nullptr;  // [batch, seq_len], or null
  bool dt_softplus = true;
  float dt_min = 0.0f, dt_max = HUGE_VALF;
  T* y;                    // [batch, seq_len, heads, head_dim], compact
  T* ungated_y = nullptr;  // y before the gate, rounded, for backward; or null
  float* final_state;      // [batch, heads, head_dim, state_size]; may be the memory of a float initial_state
  // The states at the ends of documents of a packed row: the recurrence from a document's first token, zeros for an empty
  // one. Needs batch = 1, no initial_state, and a seq_idx that changes where documents begin and nowhere else.
  const std::int32_t* cu_seqlens = nullptr;  // [documents + 1], from 0 to seq_len at most
  std::int64_t documents = 0;
  T* varlen_states = nullptr;  // [documents, heads, head_dim, state_size]; or null
  void* workspace;             // ssd_scan_forward_workspace(dims, sizeof(T)) bytes, 16-byte aligned
};

// Asynchronous on `stream`. Throws std::invalid_argument, before any launch, if an argument is unusable.
template <class T>  // float, __nv_bfloat16
void ssd_scan_forward(const SsdScanDims& dims, const SsdScanForward<T>& tensors, cudaStream_t stream,
                      Method method = Method::automatic);

std::size_t ssd_scan_forward_workspace(const SsdScanDims& dims, std::size_t element_size);

// The kernel variant for activations of `element_size` bytes whose pointers are all 16-byte aligned: "chunked" if
// head_dim and state_size are multiples of 16, state_size <= 256, 16-byte accesses divide the strides of x, B, C and z,
// and seq_len > 0; else "naive".
const char* ssd_scan_variant(const SsdScanDims& dims, std::size_t element_size, Method method = Method::automatic);

}  // namespace assay::gpu
