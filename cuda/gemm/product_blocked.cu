// One dense product for the CPU executor, in the place of cuBLASLt: loops over blocks that fit the cache. Not a kernel
// for a GPU; launched as one all the same, so that memory outside the operands is seen to stay as it was.
//
// Computes   out[i, j] = rnd_T(sum_k a(i, k) b(j, k) + bias[j])
// Numerics   float: a product and a sum for each k, from the first to the last; the bias is added to the sum; one
//            rounding at the store. The same bits for every number of threads
// Method     a thread owns 32 x 32 results; 128 k at a time it copies its rows of a and b as float, k outermost, and
//            multiplies 4 x 16 results in registers
#include "cuda/common/vec.cuh"
#include "cuda/gemm/gemm.h"
#include "cuda/gemm/product.h"

namespace assay::gpu {
namespace gemm {
namespace {

constexpr int kTile = 32, kDepth = 128;  // two panels of 16 KB
constexpr int kRows = 4, kLanes = 8, kVectors = 2;
using Vector __attribute__((vector_size(kLanes * sizeof(float)))) = float;

struct alignas(64) Panel {
  float values[kDepth][kTile];
};

// Rows first .. first + kTile of `from`, their k from `depth` on; zeros beyond the matrix.
template <class T>
void fill(Panel& panel, const Matrix<T>& from, std::int64_t first, std::int64_t rows, std::int64_t depth,
          std::int64_t count) {
  const std::int64_t row_step = from.transposed ? 1 : from.stride, depth_step = from.transposed ? from.stride : 1;
  const T* const data = from.data + first * row_step + depth * depth_step;
  for (std::int64_t k = 0; k < count; ++k) {
    for (int i = 0; i < kTile; ++i) {
      panel.values[k][i] = first + i < rows ? to_float(data[i * row_step + k * depth_step]) : 0.0f;
    }
  }
}

using Sums = Vector[kTile][kTile / kLanes];

void accumulate(const Panel& a, const Panel& b, std::int64_t count, Sums& sums) {
  for (int i = 0; i < kTile; i += kRows) {
    for (int j = 0; j < kTile / kLanes; j += kVectors) {
      Vector sum[kRows][kVectors];
      for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) sum[r][v] = sums[i + r][j + v];
      for (std::int64_t k = 0; k < count; ++k) {
        const Vector* const row = reinterpret_cast<const Vector*>(b.values[k]) + j;
        for (int r = 0; r < kRows; ++r)
          for (int v = 0; v < kVectors; ++v) sum[r][v] += a.values[k][i + r] * row[v];
      }
      for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) sums[i + r][j + v] = sum[r][v];
    }
  }
}

template <class T>
__global__ void product_blocked_kernel(Product<T> p) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kTile;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kTile;
  Panel a, b;
  Sums sums = {};
  for (std::int64_t depth = 0; depth < p.depth; depth += kDepth) {
    const std::int64_t count = depth + kDepth < p.depth ? kDepth : p.depth - depth;
    fill(a, p.a, row, p.rows, depth, count);
    fill(b, p.b, column, p.columns, depth, count);
    accumulate(a, b, count, sums);
  }
  for (std::int64_t i = 0; i < kTile && row + i < p.rows; ++i) {
    for (std::int64_t j = 0; j < kTile && column + j < p.columns; ++j) {
      const float bias = p.bias != nullptr ? to_float(p.bias[column + j]) : 0.0f;
      p.out[(row + i) * p.out_stride + column + j] = from_float<T>(sums[i][j / kLanes][j % kLanes] + bias);
    }
  }
}

}  // namespace
}  // namespace gemm

const char* const kDenseProductVariant = "blocked";
const bool kDenseProductsOnTensorCores = false;

namespace gemm {

std::size_t product_workspace() { return 0; }

template <class T>
void multiply(const Product<T>& p, void*, cudaStream_t stream) {
  const auto tiles = [](std::int64_t size) { return static_cast<unsigned>((size + kTile - 1) / kTile); };
  simt::launch(product_blocked_kernel<T>,
               {.grid = dim3(tiles(p.columns), tiles(p.rows)), .block = dim3(1), .stream = stream}, p);
}

template void multiply(const Product<float>&, void*, cudaStream_t);
template void multiply(const Product<__nv_bfloat16>&, void*, cudaStream_t);

}  // namespace gemm
}  // namespace assay::gpu
