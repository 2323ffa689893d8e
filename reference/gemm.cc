#include "reference/gemm.h"

#include <algorithm>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "reference/gemm_kernel.h"
#include "reference/parallel.h"

namespace assay::reference {
namespace {

// What is packed at a time, and what one task multiplies. Sizes for caches; no bit depends on them.
constexpr Index kPackedRows = 1008, kPackedColumns = 2016;  // 256 deep in double: 2 and 4 MiB, shared by all threads
constexpr Index kTaskRows = 192, kTaskColumns = 96;         // of A 384 KiB, which stay in the L2 cache of a core
constexpr Index kOneTask = 1 << 19;                         // m n k of a product not worth a second thread

Index rounded_up(Index n, Index multiple) { return (n + multiple - 1) / multiple * multiple; }

struct AlignedDelete {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t(64)); }
};
template <class T>
using Buffer = std::unique_ptr<T[], AlignedDelete>;  // on cache lines, so that no load straddles two
template <class T>
Buffer<T> buffer(Index size) {
  return Buffer<T>(static_cast<T*>(::operator new(sizeof(T) * static_cast<std::size_t>(size), std::align_val_t(64))));
}

// An operand: element (i, l), l along the sum, at data[i * stride + l * depth_stride].
template <class T>
struct Source {
  const T* data;
  Index stride, depth_stride;
  const T* at(Index i, Index l) const { return data + i * stride + l * depth_stride; }
};

// C = A B or C += A B, [m, k] [k, n].
template <class T>
void multiply(const GemmKernel<T>& kernel, Source<T> a, Source<T> b, MatrixView<T> c, Index k, Sum sum) {
  const Index m = c.rows, n = c.cols, depth = std::min(k, kDepthBlock);
  const bool is_one_task = m * n * k <= kOneTask;
  const auto run = [&](Index count, Index grain, const auto& body) {
    if (is_one_task) body(Index{0}, count);
    else parallel_for(count, grain, body);
  };
  const auto panel_width = [&](Index columns) { return std::min(kernel.columns, rounded_up(columns, kernel.register_width)); };
  const Index most_rows = rounded_up(std::min(m, kPackedRows), kernel.rows);
  const Index most_columns = rounded_up(std::min(n, kPackedColumns), kernel.register_width);
  const Buffer<T> packed_a = buffer<T>(most_rows * depth), packed_b = buffer<T>(most_columns * depth);

  for (Index l = 0; l < k; l += kDepthBlock) {
    const Index deep = std::min(kDepthBlock, k - l);
    const bool accumulate = sum == Sum::accumulate || l > 0;
    for (Index column = 0; column < n; column += kPackedColumns)
      for (Index row = 0; row < m; row += kPackedRows) {
        const Index rows = std::min(kPackedRows, m - row), columns = std::min(kPackedColumns, n - column);
        const Index a_panels = (rows + kernel.rows - 1) / kernel.rows;
        const Index b_panels = row > 0 ? 0 : (columns + kernel.columns - 1) / kernel.columns;  // packed with the first rows
        run(a_panels + b_panels, 8, [&](Index begin, Index end) {
          for (Index panel = begin; panel < end; ++panel) {
            const Index i = panel * kernel.rows, j = (panel - a_panels) * kernel.columns;
            if (panel < a_panels)
              kernel.pack(a.at(row + i, l), a.stride, a.depth_stride, std::min(kernel.rows, rows - i), deep, kernel.rows,
                          packed_a.get() + i * deep);
            else
              kernel.pack(b.at(column + j, l), b.stride, b.depth_stride, std::min(kernel.columns, columns - j), deep,
                          panel_width(columns - j), packed_b.get() + j * deep);
          }
        });
        const Index row_tasks = (rows + kTaskRows - 1) / kTaskRows, column_tasks = (columns + kTaskColumns - 1) / kTaskColumns;
        run(row_tasks * column_tasks, 1, [&](Index begin, Index end) {
          for (Index task = begin; task < end; ++task) {
            const Index first_row = task / column_tasks * kTaskRows, last_row = std::min(first_row + kTaskRows, rows);
            const Index first_column = task % column_tasks * kTaskColumns, last_column = std::min(first_column + kTaskColumns, columns);
            for (Index j = first_column; j < last_column; j += kernel.columns)
              for (Index i = first_row; i < last_row; i += kernel.rows)
                kernel.tile(deep, packed_a.get() + i * deep, packed_b.get() + j * deep, panel_width(columns - j),
                            c.data + (row + i) * c.stride + column + j, c.stride, std::min(kernel.rows, rows - i),
                            std::min(kernel.columns, columns - j), accumulate);
          }
        });
      }
  }
}

enum class Order { plain, transposed };

// op(A) [m, k] and op(B) [k, n] as the orders say.
template <class T>
void product(const char* name, Order a_order, Order b_order, MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> c, Sum sum) {
  const bool a_is_plain = a_order == Order::plain, b_is_plain = b_order == Order::plain;
  const Index m = a_is_plain ? a.rows : a.cols, k = a_is_plain ? a.cols : a.rows;
  const Index n = b_is_plain ? b.cols : b.rows, b_depth = b_is_plain ? b.rows : b.cols;
  if (b_depth != k || c.rows != m || c.cols != n) {
    const auto size = [](auto v) { return "[" + std::to_string(v.rows) + ", " + std::to_string(v.cols) + "]"; };
    throw std::invalid_argument(std::string(name) + ": A " + size(a) + ", B " + size(b) + ", C " + size(c) +
                                "; want sizes that agree");
  }
  if (k == 0 && sum == Sum::overwrite)
    for (Index i = 0; i < m; ++i) std::fill_n(c.data + i * c.stride, n, T(0));
  if (m == 0 || n == 0 || k == 0) return;
  const Source<T> a_source = a_is_plain ? Source<T>{a.data, a.stride, 1} : Source<T>{a.data, 1, a.stride};
  const Source<T> b_source = b_is_plain ? Source<T>{b.data, 1, b.stride} : Source<T>{b.data, b.stride, 1};
  multiply(gemm_kernels<T>().front(), a_source, b_source, c, k, sum);
}

}  // namespace

template <class T>
std::span<const GemmKernel<T>> gemm_kernels() {
  static const std::vector<GemmKernel<T>> kernels = [] {
    std::vector<GemmKernel<T>> found;
    if (__builtin_cpu_supports("avx512f")) found.push_back(gemm_kernel_avx512<T>());
    found.push_back(gemm_kernel_avx2<T>());
    return found;
  }();
  return kernels;
}
template std::span<const GemmKernel<float>> gemm_kernels();
template std::span<const GemmKernel<double>> gemm_kernels();

template <class T>
void gemm(Operand<T> a, Operand<T> b, MatrixView<T> c, Sum sum) {
  product<T>("gemm", Order::plain, Order::plain, a, b, c, sum);
}
template <class T>
void gemm_nt(Operand<T> a, Operand<T> b, MatrixView<T> c, Sum sum) {
  product<T>("gemm_nt", Order::plain, Order::transposed, a, b, c, sum);
}
template <class T>
void gemm_tn(Operand<T> a, Operand<T> b, MatrixView<T> c, Sum sum) {
  product<T>("gemm_tn", Order::transposed, Order::plain, a, b, c, sum);
}

template void gemm(MatrixView<const float>, MatrixView<const float>, MatrixView<float>, Sum);
template void gemm(MatrixView<const double>, MatrixView<const double>, MatrixView<double>, Sum);
template void gemm_nt(MatrixView<const float>, MatrixView<const float>, MatrixView<float>, Sum);
template void gemm_nt(MatrixView<const double>, MatrixView<const double>, MatrixView<double>, Sum);
template void gemm_tn(MatrixView<const float>, MatrixView<const float>, MatrixView<float>, Sum);
template void gemm_tn(MatrixView<const double>, MatrixView<const double>, MatrixView<double>, Sum);

}  // namespace assay::reference
