// Dense products. A sum over k runs in ascending k by fma, in blocks of kDepthBlock that are then added to the result. That is
// all that an element depends on: the bits are those of the inputs, for any number of threads, any alignment, any cut of the
// work, and for each of the kernels (gemm_kernel.h) that the machine may offer.
//
// Matched policy: operands that are bfloat16 values, sums in float, and the caller rounds the result once.
#pragma once

#include <type_traits>

#include "reference/tensor.h"

namespace assay::reference {

constexpr Index kDepthBlock = 256;

// A row-major matrix in somebody's memory: element (i, j) at data[i * stride + j].
template <class T>
struct MatrixView {
  T* data = nullptr;
  Index rows = 0, cols = 0, stride = 0;

  MatrixView() = default;
  MatrixView(T* data_, Index rows_, Index cols_) : MatrixView(data_, rows_, cols_, cols_) {}
  MatrixView(T* data_, Index rows_, Index cols_, Index stride_) : data(data_), rows(rows_), cols(cols_), stride(stride_) {}
  operator MatrixView<const T>() const { return {data, rows, cols, stride}; }  // NOLINT: as a pointer converts
};

// A tensor as [rows, size / rows].
template <class T>
MatrixView<T> view(Tensor<T>& t, Index rows) {
  return {t.data(), rows, rows == 0 ? 0 : t.size() / rows};
}
template <class T>
MatrixView<const T> view(const Tensor<T>& t, Index rows) {
  return {t.data(), rows, rows == 0 ? 0 : t.size() / rows};
}

template <class T>
using Operand = std::type_identity_t<MatrixView<const T>>;  // T is deduced from the result

enum class Sum { overwrite, accumulate };  // C = product, or C += product

// C[m, n] = A[m, k] B[k, n]. Throws std::invalid_argument if the sizes do not agree.
template <class T>
void gemm(Operand<T> a, Operand<T> b, MatrixView<T> c, Sum sum = Sum::overwrite);
// C[m, n] = A[m, k] B[n, k]^T
template <class T>
void gemm_nt(Operand<T> a, Operand<T> b, MatrixView<T> c, Sum sum = Sum::overwrite);
// C[m, n] = A[k, m]^T B[k, n]
template <class T>
void gemm_tn(Operand<T> a, Operand<T> b, MatrixView<T> c, Sum sum = Sum::overwrite);

}  // namespace assay::reference
