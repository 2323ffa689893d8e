// Column sums of a [count, width] float matrix.
//
// Method     a block owns 32 columns; its warps, at most four, take rows 0, 4, 8, ..., rows 1, 5, 9, ... and so on,
//            reading 128 neighbouring bytes each; their sums meet in shared memory
// Numerics   float, fixed order: each warp from its first row to its last, then warp 0 .. 3; one rounding at the store
// Cost       count * width * 4 bytes read once
#include <algorithm>

#include "cuda/common/column_sum.h"
#include "cuda/common/vec.cuh"

namespace assay::gpu {
namespace {

constexpr int kColumns = 32;
constexpr int kMaxRows = 4;

template <class Out>
__global__ void __launch_bounds__(kColumns* kMaxRows)
    column_sum_kernel(const float* __restrict__ partials, std::int64_t count, std::int64_t width, Out* out) {
  SIMT_SHARED(float[kMaxRows][kColumns], sums);
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  float sum = 0.0f;
  if (column < width) {
    for (std::int64_t row = threadIdx.y; row < count; row += blockDim.y) sum += partials[row * width + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  for (unsigned row = 1; row < blockDim.y; ++row) sum += sums[row][threadIdx.x];
  out[column] = from_float<Out>(sum);
}

}  // namespace

template <class Out>
void column_sum(const float* partials, std::int64_t count, std::int64_t width, Out* out, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((width + kColumns - 1) / kColumns);
  const auto rows = static_cast<unsigned>(std::clamp<std::int64_t>(count, 1, kMaxRows));
  simt::launch(column_sum_kernel<Out>, {.grid = dim3(blocks), .block = dim3(kColumns, rows), .stream = stream},
               partials, count, width, out);
}

template void column_sum<float>(const float*, std::int64_t, std::int64_t, float*, cudaStream_t);
template void column_sum<__nv_bfloat16>(const float*, std::int64_t, std::int64_t, __nv_bfloat16*, cudaStream_t);

}  // namespace assay::gpu
