// What a Mamba-2 mixer does with one token between in_proj and out_proj, in one launch. From in_proj's output z | x B C
// | dt and, for head h of group g = h / (heads / groups), the caches:
//
//   x | B | C = rnd_T(silu(conv(conv_state, x | B | C)))     conv_state moves left by one column and takes the new one
//   Delta = softplus(dt + dt_bias)
//   state <- state exp(Delta A) + (B Delta) x                 [head_dim, state_size]
//   y = rnd_T(state C + D x)
//   v = y silu(z)     out = rnd_T(norm_weight v / sqrt(mean of v^2 over the heads of g + eps))
//
// It rounds where causal_conv1d_update, ssm_state_update and gated_rms_norm_forward, one after the other, round, and
// keeps their orders of summation: the results have the same bits. Delta is not clamped.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/common/method.h"

namespace assay::gpu {

struct Mamba2DecodeStepDims {
  std::int64_t batch;  // 0 is fine
  std::int64_t heads;
  std::int64_t head_dim;
  std::int64_t groups;  // divides heads
  std::int64_t state_size;
  std::int64_t taps;        // of the convolution, >= 1
  std::int64_t conv_len;    // columns of conv_state, >= taps - 1; those before the last taps - 1 are kept but not read
  std::int64_t row_stride;  // elements from a row of in_proj's output to the next, >= width()

  std::int64_t inner() const { return heads * head_dim; }
  std::int64_t conv_channels() const { return inner() + 2 * groups * state_size; }
  std::int64_t width() const { return inner() + conv_channels() + heads; }
  std::int64_t group_size() const { return inner() / groups; }  // channels that are normed together
};

// T: activations, S: the cache of the state. Everything but `projected` is compact; outputs overlap no input.
template <class T, class S>
struct Mamba2DecodeStep {
  const T* projected;            // [batch, width()], row_stride apart: z [inner], x B C [conv_channels],
                                 // dt [heads], raw
  const T* conv_weight;          // [conv_channels, taps]; the last tap multiplies the present
  const T* conv_bias = nullptr;  // [conv_channels], or null for 0
  const float* dt_bias;          // [heads]
  const float* A;                // [heads], negative
  const float* D;                // [heads]
  const T* norm_weight;          // [inner]
  float eps;
  const std::int32_t* state_rows = nullptr;  // [batch]: the row of both caches for each batch row, none twice; below 0:
                                             // padding, out = 0, no cache changes. Null: row b for b
  T* conv_state;                             // [cache rows, conv_channels, conv_len], oldest first; updated
  S* state;                                  // [cache rows, heads, head_dim, state_size]; updated
  T* out;                                    // [batch, inner]
};

// Asynchronous on `stream`. Throws std::invalid_argument, before any launch, if an argument is unusable; what
// state_rows says is not checked. Types <T, S>: float and bf16 each.
template <class T, class S>
void mamba2_decode_step(const Mamba2DecodeStepDims& dims, const Mamba2DecodeStep<T, S>& tensors, cudaStream_t stream,
                        Method method = Method::automatic);

// The kernel variant if all pointers are 16-byte aligned: "block_per_group" if taps = conv_len = 4 and 16-byte accesses
// divide state_size <= 256, group_size <= 4096 and row_stride; else "naive".
const char* mamba2_decode_step_variant(const Mamba2DecodeStepDims& dims, std::size_t activation_size,
                                       std::size_t state_size, Method method = Method::automatic);

}  // namespace assay::gpu
