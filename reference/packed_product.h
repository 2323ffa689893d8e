// Products whose right-hand side is packed once and used many times: the keys of a head, which every block of queries
// of every query head of its group multiplies. On one thread; an element has the bits that gemm.h gives it.
#pragma once

#include "reference/gemm.h"
#include "reference/gemm_kernel.h"
#include "reference/large_memory.h"

namespace assay::reference {

template <class T>
class PackedMatrix;

// Rows [row, row + rows) and columns [column, column + columns) of a packed matrix, which has to outlive it.
template <class T>
struct PackedBlock {
  const PackedMatrix<T>* matrix;
  Index row, rows, column, columns;
};

// Panels of columns, as gemm_kernel.h has them, each as deep as the matrix has rows.
template <class T>
class PackedMatrix {
 public:
  PackedMatrix() = default;  // 0 x 0
  static PackedMatrix of(MatrixView<const T> b, const GemmKernel<T>& kernel = gemm_kernels<T>().front());
  static PackedMatrix of_transpose(MatrixView<const T> b, const GemmKernel<T>& kernel = gemm_kernels<T>().front());

  PackedBlock<T> all() const { return {this, 0, rows_, 0, columns_}; }
  PackedBlock<T> row_range(Index begin, Index end) const { return {this, begin, end - begin, 0, columns_}; }
  PackedBlock<T> column_range(Index begin, Index end) const { return {this, 0, rows_, begin, end - begin}; }

  const GemmKernel<T>& kernel() const { return *kernel_; }
  // The panel whose first column is `first`, a multiple of the kernel's columns, from `row` on: [rows -
  // row][panel_width].
  const T* panel(Index first, Index row) const { return data_.get() + first * rows_ + row * panel_width(first); }
  Index panel_width(Index first) const;

 private:
  // Element (i, j) at source[i * row_stride + j * column_stride].
  PackedMatrix(const GemmKernel<T>& kernel, Index rows, Index columns, const T* source, Index column_stride,
               Index row_stride);

  const GemmKernel<T>* kernel_ = nullptr;
  Index rows_ = 0, columns_ = 0;
  Buffer<T> data_;
};

// C = A B or C += A B, A [m, k]. Throws std::invalid_argument if the sizes do not agree.
template <class T>
void multiply(Operand<T> a, const PackedBlock<T>& b, MatrixView<T> c, Sum sum = Sum::overwrite);
// C = A^T B or C += A^T B, A [k, m]
template <class T>
void multiply_tn(Operand<T> a, const PackedBlock<T>& b, MatrixView<T> c, Sum sum = Sum::overwrite);

}  // namespace assay::reference
