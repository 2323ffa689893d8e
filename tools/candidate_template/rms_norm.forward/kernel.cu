// @OP@: one block per row, two passes. Simple and right; make it fast and let Assay tell whether it still is right.
// The same source is compiled by nvcc for a GPU and by g++ for Assay's CPU executor.
#include "kernel.h"

#include "cuda/simt/simt.cuh"

namespace {

constexpr int kThreads = 128;

SIMT_DEV float to_float(float x) { return x; }
SIMT_DEV float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
SIMT_DEV void store(float* p, float x) { *p = x; }
SIMT_DEV void store(__nv_bfloat16* p, float x) { *p = __float2bfloat16_rn(x); }

// The sum over the block, the same bits in every thread and every run: a tree of fixed shape.
SIMT_DEV float block_sum(float value) {
  SIMT_SHARED(float[kThreads], partial);
  partial[threadIdx.x] = value;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  return partial[0];
}

template <class T, class R>
__global__ void __launch_bounds__(kThreads) rms_norm_kernel(RmsNorm<T, R> p) {
  const std::int64_t row = blockIdx.x;
  const T* x = p.hidden_states + row * p.row_stride;
  const auto normed = [&](std::int64_t i) {
    if (p.residual == nullptr) return to_float(x[i]);
    R h;
    store(&h, to_float(x[i]) + to_float(p.residual[row * p.width + i]));
    return to_float(h);
  };

  float squares = 0.0f;
  for (std::int64_t i = threadIdx.x; i < p.width; i += kThreads) squares += normed(i) * normed(i);
  const float rstd = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(p.width) + p.eps);

  for (std::int64_t i = threadIdx.x; i < p.width; i += kThreads) {
    const float h = normed(i);
    if (p.out_residual != nullptr) store(&p.out_residual[row * p.width + i], h);
    store(&p.out_hidden_states[row * p.width + i], to_float(p.weight[i]) * (h * rstd));
  }
}

}  // namespace

template <class T, class R>
void launch_rms_norm(const RmsNorm<T, R>& p, cudaStream_t stream) {
  if (p.rows == 0) return;
  simt::launch(rms_norm_kernel<T, R>, {.grid = static_cast<unsigned>(p.rows), .block = kThreads, .stream = stream}, p);
}
template void launch_rms_norm(const RmsNorm<float, float>&, cudaStream_t);
template void launch_rms_norm(const RmsNorm<__nv_bfloat16, __nv_bfloat16>&, cudaStream_t);
template void launch_rms_norm(const RmsNorm<__nv_bfloat16, float>&, cudaStream_t);
