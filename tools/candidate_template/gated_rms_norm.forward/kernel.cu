// @OP@: one block per row and group, two passes. Simple and right; make it fast and let Assay tell whether it still is
// right. The same source is compiled by nvcc for a GPU and by g++ for Assay's CPU executor.
#include "kernel.h"

#include "cuda/simt/simt.cuh"

namespace {

constexpr int kThreads = 128;

SIMT_DEV float to_float(float x) { return x; }
SIMT_DEV float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
SIMT_DEV void store(float* p, float x) { *p = x; }
SIMT_DEV void store(__nv_bfloat16* p, float x) { *p = __float2bfloat16_rn(x); }

// x / (1 + e^-x), written so that the exponential cannot overflow.
SIMT_DEV float silu(float x) {
  const float e = expf(-fabsf(x));
  return (x >= 0.0f ? x : x * e) / (1.0f + e);
}

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

// At 8 blocks an SM the compiler gets 64 registers a thread; left alone it spills a few for occupancy on sm_100a.
template <class T>
__global__ void __launch_bounds__(kThreads, 8) gated_rms_norm_kernel(GatedRmsNorm<T> p) {
  const std::int64_t groups = p.width / p.group_size;
  const std::int64_t row = blockIdx.x / groups, first = blockIdx.x % groups * p.group_size;
  const std::int64_t end = first + p.group_size;
  const auto gated = [&](std::int64_t i) {
    const float x = to_float(p.hidden_states[row * p.row_stride + i]);
    return p.gate == nullptr ? x : x * silu(to_float(p.gate[row * p.gate_row_stride + i]));
  };

  float squares = 0.0f;
  for (std::int64_t i = first + threadIdx.x; i < end; i += kThreads) squares += gated(i) * gated(i);
  const float rstd = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(p.group_size) + p.eps);

  for (std::int64_t i = first + threadIdx.x; i < end; i += kThreads) {
    store(&p.out_hidden_states[row * p.width + i], to_float(p.weight[i]) * (gated(i) * rstd));
  }
}

}  // namespace

template <class T>
void launch_gated_rms_norm(const GatedRmsNorm<T>& p, cudaStream_t stream) {
  if (p.rows == 0) return;
  const auto blocks = static_cast<unsigned>(p.rows * (p.width / p.group_size));
  simt::launch(gated_rms_norm_kernel<T>, {.grid = blocks, .block = kThreads, .stream = stream}, p);
}
template void launch_gated_rms_norm(const GatedRmsNorm<float>&, cudaStream_t);
template void launch_gated_rms_norm(const GatedRmsNorm<__nv_bfloat16>&, cudaStream_t);
