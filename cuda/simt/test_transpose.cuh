// A transpose through dynamic shared memory: a load of the smoke and soak tests.
//
// y [columns, rows] = x [rows, columns]^T    Blocks of 32 x anything; launch_transpose() sets grid and shared memory.
// Without its barrier (kGuarded = false) it is a kernel that must be reported.
#pragma once

#include "cuda/simt/simt.cuh"

namespace simt::testing {

template <bool kGuarded>
__global__ void transpose_kernel(const float* x, float* y, int rows, int columns) {
  SIMT_DYN_SMEM(raw);
  Carver carver(raw);
  float* tile = carver.take<float>(32 * 33);
  const int thread_x = static_cast<int>(threadIdx.x), height = static_cast<int>(blockDim.y);
  const int first_row = static_cast<int>(blockIdx.y) * 32, first_column = static_cast<int>(blockIdx.x) * 32;
  for (int i = static_cast<int>(threadIdx.y); i < 32; i += height) {
    const int row = first_row + i, column = first_column + thread_x;
    if (row < rows && column < columns) tile[i * 33 + thread_x] = x[row * columns + column];
  }
  if (kGuarded) __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < 32; i += height) {
    const int row = first_column + i, column = first_row + thread_x;
    if (row < columns && column < rows) y[row * rows + column] = tile[thread_x * 33 + i];
  }
}

template <bool kGuarded = true>
void launch_transpose(const float* x, float* y, int rows, int columns, unsigned block_height = 4) {
  const auto tiles = [](int size) { return static_cast<unsigned>((size + 31) / 32); };
  launch(transpose_kernel<kGuarded>,
         {.grid = dim3(tiles(columns), tiles(rows)), .block = dim3(32, block_height), .smem = 32 * 33 * sizeof(float)},
         x, y, rows, columns);
}

}  // namespace simt::testing
