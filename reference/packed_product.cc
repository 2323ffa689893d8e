#include "reference/packed_product.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace assay::reference {
namespace {

constexpr Index kRowsAtATime = 192;  // of A, 256 deep in double 384 KiB: they stay in the L2 cache of a core

Index rounded_up(Index n, Index multiple) { return (n + multiple - 1) / multiple * multiple; }

// The left-hand side: element (i, l), l along the sum, at data[i * stride + l * depth_stride].
template <class T>
struct Left {
  const T* data;
  Index rows, stride, depth_stride;
  const T* at(Index i, Index l) const { return data + i * stride + l * depth_stride; }
};

template <class T>
void pack_rows(const GemmKernel<T>& kernel, const Left<T>& a, Index row, Index rows, Index first, Index depth,
               T* packed) {
  for (Index i = 0; i < rows; i += kernel.rows)
    kernel.pack(a.at(row + i, first), a.stride, a.depth_stride, std::min(kernel.rows, rows - i), depth, kernel.rows,
                packed + i * depth);
}

// C = A B or C += A B: packed rows of A times columns of one panel, from its first one on.
template <class T>
void multiply_panel(const GemmKernel<T>& kernel, Index depth, const T* a, const T* panel, Index width, MatrixView<T> c,
                    bool accumulate) {
  for (Index i = 0; i < c.rows; i += kernel.rows)
    kernel.tile(depth, a + i * depth, panel, width, c.data + i * c.stride, c.stride, std::min(kernel.rows, c.rows - i),
                c.cols, accumulate ? kKeepAll<T> : nullptr);
}

// Likewise, without the panel's first columns: they are multiplied, too, and left out.
template <class T>
void multiply_cut_panel(const GemmKernel<T>& kernel, Index depth, const T* a, const T* panel, Index width,
                        Index left_out, MatrixView<T> c, bool accumulate) {
  Matrix<T> whole(c.rows, left_out + c.cols);
  multiply_panel(kernel, depth, a, panel, width, MatrixView<T>(whole.data(), whole.rows(), whole.cols()), false);
  for (Index i = 0; i < c.rows; ++i)
    for (Index j = 0; j < c.cols; ++j) {
      T& out = c.data[i * c.stride + j];
      out = accumulate ? out + whole(i, left_out + j) : whole(i, left_out + j);
    }
}

template <class T>
void product(const Left<T>& a, const PackedBlock<T>& b, MatrixView<T> c, Sum sum) {
  const PackedMatrix<T>& matrix = *b.matrix;
  const GemmKernel<T>& kernel = matrix.kernel();
  if (b.rows == 0 && sum == Sum::overwrite)
    for (Index i = 0; i < c.rows; ++i) std::fill_n(c.data + i * c.stride, c.cols, T(0));
  if (a.rows == 0 || b.rows == 0 || b.columns == 0) return;
  const auto packed =
      buffer<T>(rounded_up(std::min(a.rows, kRowsAtATime), kernel.rows) * std::min(b.rows, kDepthBlock));
  for (Index l = 0; l < b.rows; l += kDepthBlock)
    for (Index row = 0; row < a.rows; row += kRowsAtATime) {
      const Index depth = std::min(kDepthBlock, b.rows - l), rows = std::min(kRowsAtATime, a.rows - row);
      const bool accumulate = sum == Sum::accumulate || l > 0;
      pack_rows(kernel, a, row, rows, l, depth, packed.get());
      for (Index first = b.column / kernel.columns * kernel.columns; first < b.column + b.columns;
           first += kernel.columns) {
        const Index begin = std::max(first, b.column), end = std::min(first + kernel.columns, b.column + b.columns);
        const MatrixView<T> out(c.data + row * c.stride + begin - b.column, rows, end - begin, c.stride);
        const T* panel = matrix.panel(first, b.row + l);
        if (begin == first)
          multiply_panel(kernel, depth, packed.get(), panel, matrix.panel_width(first), out, accumulate);
        else
          multiply_cut_panel(kernel, depth, packed.get(), panel, matrix.panel_width(first), begin - first, out,
                             accumulate);
      }
    }
}

template <class T>
void check(const char* name, MatrixView<const T> a, Index a_rows, Index a_depth, const PackedBlock<T>& b,
           MatrixView<T> c) {
  if (a_depth == b.rows && c.rows == a_rows && c.cols == b.columns) return;
  const auto size = [](Index rows, Index cols) {
    return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
  };
  throw std::invalid_argument(std::string(name) + ": A " + size(a.rows, a.cols) + ", B " + size(b.rows, b.columns) +
                              ", C " + size(c.rows, c.cols) + "; want sizes that agree");
}

}  // namespace

template <class T>
PackedMatrix<T>::PackedMatrix(const GemmKernel<T>& kernel, Index rows, Index columns, const T* source,
                              Index column_stride, Index row_stride)
    : kernel_(&kernel),
      rows_(rows),
      columns_(columns),
      data_(buffer<T>(rows * rounded_up(columns, kernel.register_width))) {
  for (Index j = 0; j < columns; j += kernel.columns)
    kernel.pack(source + j * column_stride, column_stride, row_stride, std::min(kernel.columns, columns - j), rows,
                panel_width(j), data_.get() + j * rows);
}

template <class T>
PackedMatrix<T> PackedMatrix<T>::of(MatrixView<const T> b, const GemmKernel<T>& kernel) {
  return {kernel, b.rows, b.cols, b.data, 1, b.stride};
}
template <class T>
PackedMatrix<T> PackedMatrix<T>::of_transpose(MatrixView<const T> b, const GemmKernel<T>& kernel) {
  return {kernel, b.cols, b.rows, b.data, b.stride, 1};
}

template <class T>
Index PackedMatrix<T>::panel_width(Index first) const {
  return std::min(kernel_->columns, rounded_up(columns_ - first, kernel_->register_width));
}

template <class T>
void multiply(Operand<T> a, const PackedBlock<T>& b, MatrixView<T> c, Sum sum) {
  check("multiply", a, a.rows, a.cols, b, c);
  product<T>({a.data, a.rows, a.stride, 1}, b, c, sum);
}
template <class T>
void multiply_tn(Operand<T> a, const PackedBlock<T>& b, MatrixView<T> c, Sum sum) {
  check("multiply_tn", a, a.cols, a.rows, b, c);
  product<T>({a.data, a.cols, 1, a.stride}, b, c, sum);
}

#define ASSAY_INSTANTIATE(T)                                                              \
  template class PackedMatrix<T>;                                                         \
  template void multiply(MatrixView<const T>, const PackedBlock<T>&, MatrixView<T>, Sum); \
  template void multiply_tn(MatrixView<const T>, const PackedBlock<T>&, MatrixView<T>, Sum);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
