// One decode step of the Mamba-2 scan, in place. For head h of group g = h / (heads / groups):
//
//   Delta = max(softplus(dt + dt_bias), dt_min)
//   state <- state exp(Delta A) + (B Delta) x          [head_dim, state_size]
//   y = rnd_T((state C + D x) (silu(z)))
//
// All arithmetic is float; y comes from the state before that is rounded to its own type. Sums have a fixed order:
// repeated runs agree bit for bit.
#pragma once

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "cuda/common/method.h"
#include "cuda/common/scalars.h"

namespace assay::gpu {

// Strides count elements from a batch row to the next; within a row everything is compact.
struct SsmStateUpdateDims {
  std::int64_t batch;  // 0 is fine
  std::int64_t heads;
  std::int64_t head_dim;
  std::int64_t groups;  // divides heads
  std::int64_t state_size;
  std::int64_t x_stride;      // >= heads * head_dim
  std::int64_t dt_stride;     // >= heads
  std::int64_t B_stride;      // >= groups * state_size
  std::int64_t C_stride;      // >= groups * state_size
  std::int64_t z_stride;      // >= heads * head_dim, without a gate, too
  std::int64_t state_stride;  // >= heads * head_dim * state_size
};

// T: activations, S: the cache.
template <class T, class S>
struct SsmStateUpdate {
  const T* x;      // [batch, heads, head_dim], x_stride apart
  Scalars dt;      // [batch, heads], dt_stride apart; raw
  const float* A;  // [heads], negative
  const T* B;      // [batch, groups, state_size], B_stride apart
  const T* C;      // [batch, groups, state_size], C_stride apart
  Scalars D = {};  // [heads], or [heads, head_dim]; or none
  bool D_per_channel = false;
  const T* z = nullptr;  // [batch, heads, head_dim], z_stride apart; or null
  Scalars dt_bias = {};  // [heads], or none
  bool dt_softplus = true;
  float dt_min = -HUGE_VALF;
  const std::int32_t* state_rows = nullptr;  // [batch]: the row of the cache for each batch row, none twice; below 0:
                                             // padding, y = 0. Null: row b for b
  S* state;                                  // [cache rows, heads, head_dim, state_size], state_stride apart; updated
  T* y;                                      // [batch, heads, head_dim], compact
};

// Asynchronous on `stream`. Throws std::invalid_argument, before any launch, if an argument is unusable; what
// state_rows says is not checked. Types <T, S>: float and bf16 each.
template <class T, class S>
void ssm_state_update(const SsmStateUpdateDims& dims, const SsmStateUpdate<T, S>& tensors, cudaStream_t stream,
                      Method method = Method::automatic);

// The kernel variant for a cache of `element_size` bytes that is 16-byte aligned: "rows_in_registers" if 16-byte
// accesses divide state_size <= 256 and state_stride, else "naive".
const char* ssm_state_update_variant(const SsmStateUpdateDims& dims, std::size_t element_size,
                                     Method method = Method::automatic);

}  // namespace assay::gpu
