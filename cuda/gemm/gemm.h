// Dense products: the linear layers, forward and backward.
//
//   forward    y = rnd_T(x weight^T + bias)
//   backward   d_x = rnd_T(d_y weight)   d_weight = rnd_T(d_y^T x)   d_bias = rnd_T(sum over rows of d_y)
//
// Sums are float, the bias is added before the one rounding. On a GPU the products are cuBLASLt's, which is opened when
// the first one runs: float operands are multiplied as such (no TF32), partial sums of a split sum stay float, and the
// algorithm is cuBLASLt's first choice for the sizes, the same in every run. For the CPU executor they are blocked
// loops whose sums run from the first term to the last.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace assay::gpu {

struct LinearDims {
  std::int64_t rows;  // tokens; 0 is fine
  std::int64_t in_features;
  std::int64_t out_features;
  std::int64_t x_stride;  // elements from a row of x to the next, >= in_features
  std::int64_t y_stride;  // the same of y and d_y, >= out_features
};

// `workspace`: linear_forward_workspace(), linear_backward_workspace(dims) bytes, 256-byte aligned. Outputs overlap no
// input.
template <class T>
struct LinearForward {
  const T* x;       // [rows, in_features], x_stride apart
  const T* weight;  // [out_features, in_features]
  const T* bias;    // [out_features], or null
  T* y;             // [rows, out_features], y_stride apart
  void* workspace;
};

template <class T>
struct LinearBackward {
  const T* x;
  const T* weight;
  const T* d_y;  // [rows, out_features], y_stride apart
  T* d_x;        // [rows, in_features], compact; or null
  T* d_weight;   // [out_features, in_features], overwritten; or null
  T* d_bias;     // [out_features], overwritten; or null
  void* workspace;
};

// Asynchronous on `stream`. Throw std::invalid_argument, before any launch, if an argument is unusable, and
// std::runtime_error if cuBLASLt is missing or refuses: the text says which library was looked for, or which call
// failed with what. T: float, bf16.
template <class T>
void linear_forward(const LinearDims& dims, const LinearForward<T>& tensors, cudaStream_t stream);
template <class T>
void linear_backward(const LinearDims& dims, const LinearBackward<T>& tensors, cudaStream_t stream);

// What this library multiplies with: "cublasLt", whose bfloat16 products run on tensor cores, or "blocked".
extern const char* const kDenseProductVariant;
extern const bool kDenseProductsOnTensorCores;

std::size_t linear_forward_workspace();
std::size_t linear_backward_workspace(const LinearDims& dims);

}  // namespace assay::gpu
