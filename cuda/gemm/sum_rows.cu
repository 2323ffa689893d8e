// Sums of some rows each: the first step of a bias gradient (the second is cuda/common/column_sum).
//
// Computes   partials[p, j] = sum of d_y[i, j] over i in [64 p, 64 p + 64) within the rows
// Layout     d_y [rows, columns], rows `stride` apart    partials [ceil(rows / 64), columns] float
// Numerics   float, first row to last
// Method     a thread owns a column of 64 rows; neighbouring threads read neighbouring elements
// Cost       memory-bound: d_y once; the partial sums are a 64th of it, or a 32nd for bfloat16
#include "cuda/common/vec.cuh"
#include "cuda/gemm/product.h"

namespace assay::gpu::gemm {
namespace {

constexpr int kThreads = 128;

template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_rows_kernel(const T* __restrict__ d_y, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                    float* __restrict__ partials) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= columns) return;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kRowsPerPartial;
  const std::int64_t last = first + kRowsPerPartial < rows ? first + kRowsPerPartial : rows;
  float sum = 0.0f;
  for (std::int64_t row = first; row < last; ++row) sum += to_float(d_y[row * stride + column]);
  partials[blockIdx.x * columns + column] = sum;
}

}  // namespace

template <class T>
void sum_rows(const T* d_y, std::int64_t rows, std::int64_t columns, std::int64_t stride, float* partials,
              cudaStream_t stream) {
  const auto count = [](std::int64_t size, std::int64_t each) {
    return static_cast<unsigned>((size + each - 1) / each);
  };
  simt::launch(
      sum_rows_kernel<T>,
      {.grid = dim3(count(rows, kRowsPerPartial), count(columns, kThreads)), .block = dim3(kThreads), .stream = stream},
      d_y, rows, columns, stride, partials);
}

template void sum_rows(const float*, std::int64_t, std::int64_t, std::int64_t, float*, cudaStream_t);
template void sum_rows(const __nv_bfloat16*, std::int64_t, std::int64_t, std::int64_t, float*, cudaStream_t);

}  // namespace assay::gpu::gemm
