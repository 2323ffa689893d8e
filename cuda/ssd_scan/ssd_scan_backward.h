// The gradients of the state space scan (ssd_scan.h). With u_t = state_t C_t + D x_t, y_t = u_t silu(z_t) and
// dy_t <- rnd_T(dy_t silu(z_t)) where there is a gate, q = d_final_state (or 0), for every batch row and head, from the
// last token to the first:
//
//   q      <- q + dy_t C_t^T
//   dC_t   += sum_p dy_t[p] state_t[p]             over the heads of the group
//   dx_t    = D dy_t + Delta_t q B_t
//   dB_t   += Delta_t sum_p q[p] x_t[p]            over the heads of the group
//   dD     += dy_t x_t                             with dy_t silu(z_t) before its rounding
//   e_t     = a_t <q, state_{t-1}>                 a_t = kappa_t exp(Delta_t A), the decay
//   dDelta_t = A e_t + x_t . (q B_t),  dA += Delta_t e_t
//   ddt_t   = dDelta_t [dt_min <= s_t <= dt_max] softplus'(dt_t + dt_bias),  s_t = softplus(dt_t + dt_bias)
//   q      <- a_t q
//   ddt_bias = sum ddt_t,  d_initial_state = rnd_T(q),  dz_t = dy_t u_t silu'(z_t) with the dy_t that came in
//
// Sums are float (double in naive) and have a fixed order: repeated runs agree bit for bit.
#pragma once

#include "cuda/ssd_scan/ssd_scan.h"

namespace assay::gpu {

// Elements from a token to the next, in the gradients of x, dt, B, C and z; as in SsdScanDims.
struct SsdScanGradientStrides {
  std::int64_t x, dt, B, C, z;
};

template <class T>
struct SsdScanBackward {
  // What forward read, as there.
  const T* x;
  Scalars dt;
  const float* A;
  const T* B;
  const T* C;
  Scalars D = {};
  bool D_per_channel = false;
  const T* z = nullptr;
  Scalars dt_bias = {};
  Scalars initial_state = {};
  const std::int32_t* seq_idx = nullptr;
  bool dt_softplus = true;
  float dt_min = 0.0f, dt_max = HUGE_VALF;

  const T* ungated_y = nullptr;          // as forward stored it, compact; with a gate
  const T* d_y;                          // [batch, seq_len, heads, head_dim], compact
  const float* d_final_state = nullptr;  // [batch, heads, head_dim, state_size]; null: zeros

  SsdScanGradientStrides strides;   // of the next five
  T* d_x;                           // [batch, seq_len, heads, head_dim]
  void* d_dt;                       // [batch, seq_len, heads], of dt's type
  T* d_B;                           // [batch, seq_len, groups, state_size]
  T* d_C;                           // [batch, seq_len, groups, state_size]
  T* d_z = nullptr;                 // [batch, seq_len, heads, head_dim]; with a gate
  float* d_A;                       // [heads]
  float* d_D = nullptr;             // the shape of D; where there is a D
  float* d_dt_bias = nullptr;       // [heads]; where there is a dt_bias
  void* d_initial_state = nullptr;  // of initial_state's shape and type; null: not wanted
  void* workspace;                  // ssd_scan_backward_workspace(...) bytes, 16-byte aligned
};

// Three launches, asynchronous on `stream`. Throws std::invalid_argument, before any launch, if an argument is
// unusable.
template <class T>  // float, __nv_bfloat16
void ssd_scan_backward(const SsdScanDims& dims, const SsdScanBackward<T>& tensors, cudaStream_t stream,
                       Method method = Method::automatic);

// Naive: 8 bytes for each element of the state of each token. It is for odd sizes and second opinions.
std::size_t ssd_scan_backward_workspace(const SsdScanDims& dims, const SsdScanGradientStrides& strides,
                                        std::size_t element_size, Method method = Method::automatic);

// The kernel variant: "naive", or "chunked" if ssd_scan_variant says so and 16-byte accesses divide the strides of the
// gradients of x, B, C and z, too. Chunked throws if x, B, C, z, ungated_y, d_y, a gradient of theirs or a state is not
// 16-byte aligned.
const char* ssd_scan_backward_variant(const SsdScanDims& dims, const SsdScanGradientStrides& strides,
                                      std::size_t element_size, Method method = Method::automatic);

}  // namespace assay::gpu
