// Private to the family: one product, by cuBLASLt (product_cublas.cc) or by loops (product_blocked.cu). Each library
// links one of them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace assay::gpu::gemm {

// Element (i, k) lies at data[i * stride + k], or at data[k * stride + i] if transposed.
template <class T>
struct Matrix {
  const T* data;
  std::int64_t stride;
  bool transposed = false;
};

// out[i, j] = rnd_T(sum_{k < depth} a(i, k) b(j, k) + bias[j]), rows of `out` out_stride apart. All three sizes are at
// least 1. `bias` may be null; `workspace` holds product_workspace() bytes.
template <class T>
struct Product {
  std::int64_t rows, columns, depth;
  Matrix<T> a, b;
  const T* bias;
  T* out;
  std::int64_t out_stride;
};
template <class T>  // float, __nv_bfloat16
void multiply(const Product<T>& product, void* workspace, cudaStream_t stream);

std::size_t product_workspace();

// partials[p, j] = sum of d_y[i, j] over the kRowsPerPartial rows from p kRowsPerPartial on.
constexpr std::int64_t kRowsPerPartial = 64;
template <class T>
void sum_rows(const T* d_y, std::int64_t rows, std::int64_t columns, std::int64_t stride, float* partials,
              cudaStream_t stream);

}  // namespace assay::gpu::gemm
