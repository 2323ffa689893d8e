// The residual stream of a block: the sum, and the gradient rounded for the mixer.
//
// Method     one thread per element
// Cost       memory-bound: add_to_stream reads two tensors and writes one, round_gradient reads one and writes one
#include "cuda/common/planted.h"
#include "cuda/common/vec.cuh"
#include "cuda/mamba2_block/stream.h"

namespace assay::gpu::mamba2_block {
namespace {

constexpr int kThreads = 256;

SIMT_DEV std::int64_t global_thread() { return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; }

template <class T, class R>
__global__ void __launch_bounds__(kThreads)
    add_to_stream_kernel(const T* __restrict__ stream, const T* __restrict__ mixed, std::int64_t size,
                         R* __restrict__ out) {
  const std::int64_t i = global_thread();
  if (i >= size) return;
  const float sum = to_float(stream[i]) + to_float(mixed[i]);
  out[i] = from_float<R>(planted<Break::block_sum_in_model_dtype> ? to_float(from_float<T>(sum)) : sum);
}

__global__ void __launch_bounds__(kThreads)
    round_gradient_kernel(const float* __restrict__ in, std::int64_t size, __nv_bfloat16* __restrict__ out) {
  const std::int64_t i = global_thread();
  if (i < size) out[i] = from_float<__nv_bfloat16>(in[i]);
}

simt::Launch launch_for(std::int64_t threads, cudaStream_t stream) {
  return {.grid = dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)),
          .block = dim3(kThreads),
          .stream = stream};
}

}  // namespace

template <class T, class R>
void add_to_stream(const T* stream, const T* mixed, std::int64_t size, R* out, cudaStream_t cuda_stream) {
  if (size == 0) return;
  simt::launch(add_to_stream_kernel<T, R>, launch_for(size, cuda_stream), stream, mixed, size, out);
}

void round_gradient(const float* in, std::int64_t size, __nv_bfloat16* out, cudaStream_t cuda_stream) {
  if (size == 0) return;
  simt::launch(round_gradient_kernel, launch_for(size, cuda_stream), in, size, out);
}

using bf16 = __nv_bfloat16;
template void add_to_stream(const float*, const float*, std::int64_t, float*, cudaStream_t);
template void add_to_stream(const bf16*, const bf16*, std::int64_t, bf16*, cudaStream_t);
template void add_to_stream(const bf16*, const bf16*, std::int64_t, float*, cudaStream_t);

}  // namespace assay::gpu::mamba2_block
