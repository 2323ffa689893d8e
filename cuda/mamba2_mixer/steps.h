// Private to the family: the small steps between the kernels of other families. Arguments are checked already.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace assay::gpu::mamba2_mixer {

// out[row] = x[row] where mask[row] != 0, else 0.   x, out [rows, width]   mask [rows]
template <class T>
void apply_mask(const T* x, const std::int32_t* mask, std::int64_t rows, std::int64_t width, T* out,
                cudaStream_t stream);

// A[h] = -exp(A_log[h])
void decay_rates(const float* A_log, std::int64_t heads, float* A, cudaStream_t stream);

// The last `taps` columns of (state ++ xBC), in place; and what the convolution of xBC needs of the old ones.
template <class T>
struct AppendColumns {
  std::int64_t batch, seq_len, channels, taps;
  const T* xBC;             // [batch, seq_len, channels], row_stride apart
  std::int64_t row_stride;  // batch rows follow each other
  bool forget;              // columns from before xBC count as zeros
  T* state;                 // [batch, channels, taps], oldest first
  T* earlier;               // [batch, channels, taps - 1]: the last columns of the old state; or null
};
template <class T>
void append_columns(const AppendColumns<T>& append, cudaStream_t stream);

// out = rnd(in)
template <class Out>
void round_state(const float* in, std::int64_t size, Out* out, cudaStream_t stream);

// d_A_log[h] = d_A[h] A[h]
void decay_rates_backward(const float* A, const float* d_A, std::int64_t heads, float* d_A_log, cudaStream_t stream);

// A compact tensor into a slice of a wider one.   from [rows, width]   to [rows, width], row_stride apart
template <class T>
void place_slice(const T* from, std::int64_t rows, std::int64_t width, T* to, std::int64_t row_stride,
                 cudaStream_t stream);

}  // namespace assay::gpu::mamba2_mixer
