#include "reference/gemm.h"

#include <Eigen/Core>
#include <algorithm>
#include <stdexcept>
#include <string>

#include "reference/parallel.h"

namespace assay::reference {
namespace {

// Eigen's block sizes, fixed: 96 x 256 doubles are 192 KiB, within the L2 cache of every machine with AVX2.
template <class T>
struct FixedBlocking : Eigen::internal::level3_blocking<T, T> {
  FixedBlocking(Index rows, Index cols, Index depth) {
    this->m_mc = std::min<Index>(rows, 96 * 8 / static_cast<Index>(sizeof(T)));
    this->m_nc = cols;
    this->m_kc = depth;
  }
};

// C += op(A) op(B) on one thread. The operands' orders as Eigen names them; C is row-major.
template <class T, int a_order, int b_order>
void multiply(const T* a, Index a_stride, const T* b, Index b_stride, T* c, Index c_stride, Index m, Index n, Index k) {
  using Product = Eigen::internal::general_matrix_matrix_product<Index, T, a_order, false, T, b_order, false, Eigen::RowMajor, 1>;
  for (Index begin = 0; begin < k; begin += kDepthBlock) {
    const Index depth = std::min(kDepthBlock, k - begin);
    FixedBlocking<T> blocking(n, m, depth);  // Eigen computes the transposed product: rows and columns change places
    Product::run(m, n, depth, a + begin * (a_order == Eigen::RowMajor ? 1 : a_stride), a_stride,
                 b + begin * (b_order == Eigen::RowMajor ? b_stride : 1), b_stride, c, 1, c_stride, T(1), blocking);
  }
}

// Rows, or columns if there are more of those, of one piece: a multiple of the kernel's tile, at least 8 pieces where that
// leaves each large enough to be worth packing the other operand for. `work` is m n k: below a tenth of a millisecond a
// product is one piece.
Index piece_size(Index extent, Index work) {
  constexpr Index tile = 48, least = 2 * tile, small = 1 << 22;
  if (work <= small) return extent;
  return std::max(least, (extent / 8 + tile - 1) / tile * tile);
}

template <class T, int a_order, int b_order>
void product(const char* name, MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> c, Sum sum) {
  const bool a_is_plain = a_order == Eigen::RowMajor, b_is_plain = b_order == Eigen::RowMajor;
  const Index m = a_is_plain ? a.rows : a.cols, k = a_is_plain ? a.cols : a.rows;
  const Index n = b_is_plain ? b.cols : b.rows, b_depth = b_is_plain ? b.rows : b.cols;
  if (b_depth != k || c.rows != m || c.cols != n) {
    const auto size = [](auto v) { return "[" + std::to_string(v.rows) + ", " + std::to_string(v.cols) + "]"; };
    throw std::invalid_argument(std::string(name) + ": A " + size(a) + ", B " + size(b) + ", C " + size(c) +
                                "; want sizes that agree");
  }
  const bool cut_rows = m >= n;
  parallel_for(cut_rows ? m : n, piece_size(cut_rows ? m : n, m * n * k), [&](Index begin, Index end) {
    const Index row = cut_rows ? begin : 0, rows = cut_rows ? end - begin : m;
    const Index col = cut_rows ? 0 : begin, cols = cut_rows ? n : end - begin;
    T* out = c.data + row * c.stride + col;
    if (sum == Sum::overwrite)
      for (Index i = 0; i < rows; ++i) std::fill_n(out + i * c.stride, cols, T(0));
    multiply<T, a_order, b_order>(a.data + row * (a_is_plain ? a.stride : 1), a.stride,
                                  b.data + col * (b_is_plain ? 1 : b.stride), b.stride, out, c.stride, rows, cols, k);
  });
}

}  // namespace

template <class T>
void gemm(Operand<T> a, Operand<T> b, MatrixView<T> c, Sum sum) {
  product<T, Eigen::RowMajor, Eigen::RowMajor>("gemm", a, b, c, sum);
}
template <class T>
void gemm_nt(Operand<T> a, Operand<T> b, MatrixView<T> c, Sum sum) {
  product<T, Eigen::RowMajor, Eigen::ColMajor>("gemm_nt", a, b, c, sum);
}
template <class T>
void gemm_tn(Operand<T> a, Operand<T> b, MatrixView<T> c, Sum sum) {
  product<T, Eigen::ColMajor, Eigen::RowMajor>("gemm_tn", a, b, c, sum);
}

template void gemm(MatrixView<const float>, MatrixView<const float>, MatrixView<float>, Sum);
template void gemm(MatrixView<const double>, MatrixView<const double>, MatrixView<double>, Sum);
template void gemm_nt(MatrixView<const float>, MatrixView<const float>, MatrixView<float>, Sum);
template void gemm_nt(MatrixView<const double>, MatrixView<const double>, MatrixView<double>, Sum);
template void gemm_tn(MatrixView<const float>, MatrixView<const float>, MatrixView<float>, Sum);
template void gemm_tn(MatrixView<const double>, MatrixView<const double>, MatrixView<double>, Sum);

}  // namespace assay::reference
