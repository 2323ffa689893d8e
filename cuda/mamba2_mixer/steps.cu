// The small steps of the Mamba-2 mixer: padding mask, decay rates and their gradient, the convolution's cache, the
// rounding of the state, the gradient of a slice.
//
// Method     one thread per element; append_columns: per channel of a batch row, which moves a handful of columns
// Cost       memory-bound. The mask reads and writes the input once more, place_slice the gate's gradient; the others
//            are small beside the scan: the cache of the convolution is taps rows of in_proj's output, the state is
//            written once
#include "cuda/common/planted.h"
#include "cuda/common/vec.cuh"
#include "cuda/mamba2_mixer/steps.h"

namespace assay::gpu::mamba2_mixer {
namespace {

constexpr int kThreads = 256;

SIMT_DEV std::int64_t global_thread() { return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; }

template <class T>
__global__ void __launch_bounds__(kThreads)
    apply_mask_kernel(const T* __restrict__ x, const std::int32_t* __restrict__ mask, std::int64_t size,
                      std::int64_t width, T* __restrict__ out) {
  const std::int64_t i = global_thread();
  if (i >= size) return;
  const bool real = mask[i / width] != 0 || planted<Break::mixer_mask_ignored>;
  out[i] = real ? x[i] : from_float<T>(0.0f);
}

__global__ void __launch_bounds__(kThreads)
    decay_rates_kernel(const float* __restrict__ A_log, std::int64_t heads, float* __restrict__ A) {
  const std::int64_t h = global_thread();
  if (h < heads) A[h] = planted<Break::mixer_rate_not_negated> ? expf(A_log[h]) : -expf(A_log[h]);
}

template <class T>
__global__ void __launch_bounds__(kThreads) append_columns_kernel(AppendColumns<T> t) {
  const std::int64_t i = global_thread();
  if (i >= t.batch * t.channels) return;
  const std::int64_t b = i / t.channels, c = i % t.channels;
  T* const state = t.state + i * t.taps;
  if (t.earlier != nullptr) {
    for (std::int64_t j = 0; j < t.taps - 1; ++j) {
      t.earlier[i * (t.taps - 1) + j] = state[planted<Break::mixer_columns_shifted> ? j : j + 1];
    }
  }
  for (std::int64_t j = 0; j < t.taps; ++j) {  // what is read of the state lies to the right of what is written
    const std::int64_t token = t.seq_len - t.taps + j - (planted<Break::mixer_stale_tail> ? 1 : 0);
    if (token >= 0) {
      state[j] = t.xBC[(b * t.seq_len + token) * t.row_stride + c];
    } else {
      state[j] = t.forget ? from_float<T>(0.0f) : state[t.taps + token];
    }
  }
}

template <class Out>
__global__ void __launch_bounds__(kThreads)
    round_state_kernel(const float* __restrict__ in, std::int64_t size, Out* __restrict__ out) {
  const std::int64_t i = global_thread();
  if (i >= size) return;
  if (planted<Break::mixer_state_truncated>) {
    out[i] = __ushort_as_bfloat16(static_cast<unsigned short>(__float_as_uint(in[i]) >> 16));
  } else {
    out[i] = from_float<Out>(in[i]);
  }
}

__global__ void __launch_bounds__(kThreads)
    decay_rates_backward_kernel(const float* __restrict__ A, const float* __restrict__ d_A, std::int64_t heads,
                                float* __restrict__ d_A_log) {
  const std::int64_t h = global_thread();
  if (h < heads) d_A_log[h] = planted<Break::mixer_chain_rule_left_out> ? d_A[h] : d_A[h] * A[h];
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    place_slice_kernel(const T* __restrict__ from, std::int64_t size, std::int64_t width, T* __restrict__ to,
                       std::int64_t row_stride) {
  const std::int64_t i = global_thread();
  if (i < size) to[i / width * row_stride + i % width] = from[i];
}

simt::Launch launch_for(std::int64_t threads, cudaStream_t stream) {
  return {.grid = dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)),
          .block = dim3(kThreads),
          .stream = stream};
}

}  // namespace

template <class T>
void apply_mask(const T* x, const std::int32_t* mask, std::int64_t rows, std::int64_t width, T* out,
                cudaStream_t stream) {
  if (rows == 0) return;
  simt::launch(apply_mask_kernel<T>, launch_for(rows * width, stream), x, mask, rows * width, width, out);
}

void decay_rates(const float* A_log, std::int64_t heads, float* A, cudaStream_t stream) {
  simt::launch(decay_rates_kernel, launch_for(heads, stream), A_log, heads, A);
}

template <class T>
void append_columns(const AppendColumns<T>& append, cudaStream_t stream) {
  if (append.batch == 0) return;
  simt::launch(append_columns_kernel<T>, launch_for(append.batch * append.channels, stream), append);
}

template <class Out>
void round_state(const float* in, std::int64_t size, Out* out, cudaStream_t stream) {
  if (size == 0) return;
  simt::launch(round_state_kernel<Out>, launch_for(size, stream), in, size, out);
}

void decay_rates_backward(const float* A, const float* d_A, std::int64_t heads, float* d_A_log, cudaStream_t stream) {
  simt::launch(decay_rates_backward_kernel, launch_for(heads, stream), A, d_A, heads, d_A_log);
}

template <class T>
void place_slice(const T* from, std::int64_t rows, std::int64_t width, T* to, std::int64_t row_stride,
                 cudaStream_t stream) {
  if (rows * width == 0) return;
  simt::launch(place_slice_kernel<T>, launch_for(rows * width, stream), from, rows * width, width, to, row_stride);
}

using bf16 = __nv_bfloat16;
template void apply_mask(const float*, const std::int32_t*, std::int64_t, std::int64_t, float*, cudaStream_t);
template void apply_mask(const bf16*, const std::int32_t*, std::int64_t, std::int64_t, bf16*, cudaStream_t);
template void append_columns(const AppendColumns<float>&, cudaStream_t);
template void append_columns(const AppendColumns<bf16>&, cudaStream_t);
template void round_state(const float*, std::int64_t, bf16*, cudaStream_t);
template void place_slice(const float*, std::int64_t, std::int64_t, float*, std::int64_t, cudaStream_t);
template void place_slice(const bf16*, std::int64_t, std::int64_t, bf16*, std::int64_t, cudaStream_t);

}  // namespace assay::gpu::mamba2_mixer
