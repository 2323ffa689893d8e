#include "reference/gemm.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "reference/ahead.h"
#include "reference/gemm_kernel.h"
#include "reference/large_memory.h"
#include "reference/parallel.h"

namespace assay::reference {
namespace {

// What is packed at a time. Sizes for caches; no bit depends on them.
constexpr Index kPackedRows = 1024, kPackedDepth = 11 * kDepthBlock;  // of A, for all threads: 22 MiB at most in double
constexpr Index kStripPanels = 4, kStripDepth = 2 * kDepthBlock;      // of B, by a task: 384 KiB, in its core's L2 cache beside the next
constexpr Index kPackedAtOnce = 32;                                   // deep, before the next panel: reads stay in few pages
constexpr Index kLeastRows = 64;                                      // worth a task
constexpr Index kOneTask = 1 << 19;                                   // m n k of a product not worth a second thread

Index pieces(Index n, Index size) { return (n + size - 1) / size; }
Index rounded_up(Index n, Index multiple) { return (n + multiple - 1) / multiple * multiple; }

// An operand: element (i, l), l along the sum, at data[i * stride + l * depth_stride].
template <class T>
struct Source {
  const T* data;
  Index stride, depth_stride;
  const T* at(Index i, Index l) const { return data + i * stride + l * depth_stride; }
};

// Rows and panels of columns that one task multiplies.
struct Task {
  Index first_row, last_row, first_panel, last_panel;
};

// Strips of all rows; of fewer rows where panels are few.
std::vector<Task> cut(Index rows, Index row_multiple, Index panels, Index team) {
  const Index groups = team == 1 ? 1 : std::clamp<Index>(4 * team * kStripPanels / panels, 1, pieces(rows, kLeastRows));
  const Index group_rows = rounded_up(pieces(rows, groups), row_multiple);
  std::vector<Task> tasks;
  for (Index panel = 0; panel < panels; panel += kStripPanels)
    for (Index row = 0; row < rows; row += group_rows)
      tasks.push_back({row, std::min(row + group_rows, rows), panel, std::min(panel + kStripPanels, panels)});
  return tasks;
}

// Rows [row, row + rows) of A, from begin to end deep: for each kDepthBlock of the depth its panels one behind the other.
template <class T>
struct PackedRows {
  Index row, rows, padded_rows, begin, end;
  T* data;
  Index deep(Index l) const { return std::min(kDepthBlock, end - l); }
  T* panel(Index i, Index l) const { return data + (l - begin) * padded_rows + i * deep(l); }
};

// C = A B or C += A B, [m, k] [k, n]. A is packed for all tasks, B by each task for itself, strip by strip.
template <class T>
struct Product {
  const GemmKernel<T>& kernel;
  Source<T> a, b;
  MatrixView<T> c;
  Index k;
  Sum sum;

  Index panels() const { return pieces(c.cols, kernel.columns); }
  Index panel_width(Index column) const { return std::min(kernel.columns, rounded_up(c.cols - column, kernel.register_width)); }
  bool is_one_task() const { return c.rows * c.cols * k <= kOneTask; }

  void pack(const PackedRows<T>& to, Index first_panel, Index last_panel) const {
    const Index panels = to.padded_rows / kernel.rows;  // of one block
    for (Index panel = first_panel; panel < last_panel; ++panel) {
      const Index l = to.begin + panel / panels * kDepthBlock, i = panel % panels * kernel.rows;
      kernel.pack(a.at(to.row + i, l), a.stride, a.depth_stride, std::min(kernel.rows, to.rows - i), to.deep(l), kernel.rows, to.panel(i, l));
    }
  }

  // Columns [first, last) of B from l on.
  void pack_strip(Index first, Index last, Index l, Index deep, T* strip) const {
    for (Index d = 0; d < deep; d += kPackedAtOnce)
      for (Index j = first; j < last; j += kernel.columns) {
        const Index width = panel_width(j);
        kernel.pack(b.at(j, l + d), b.stride, b.depth_stride, std::min(kernel.columns, last - j), std::min(kPackedAtOnce, deep - d), width,
                    strip + (j - first) * deep + d * width);
      }
  }

  Index first_column(const Task& task) const { return task.first_panel * kernel.columns; }
  Index last_column(const Task& task) const { return std::min(task.last_panel * kernel.columns, c.cols); }

  // What a strip of the task's columns packs from l on.
  Ahead<T> source_of_strip(const Task& task, Index l, Index deep) const {
    const Index first = first_column(task), count = last_column(task) - first;
    return b.stride == 1 ? Ahead<T>(b.at(first, l), deep, count, b.depth_stride) : Ahead<T>(b.at(first, l), count, deep, b.stride);
  }

  // `next` is the task that this thread is likely to take after this one.
  void multiply(const PackedRows<T>& rows, const Task& task, const Task& next, T* strip) const {
    const Index first = first_column(task), last = last_column(task);
    const Index strip_width = rounded_up(last - first, kernel.register_width);
    for (Index begin = rows.begin; begin < rows.end; begin += kStripDepth) {
      const Index end = std::min(begin + kStripDepth, rows.end);
      const auto block = [&](Index l) { return strip + (l - begin) * strip_width; };
      for (Index l = begin; l < end; l += kDepthBlock) pack_strip(first, last, l, rows.deep(l), block(l));

      // The strip after this one is asked for in the second half of this one's rows: earlier, it would be pushed out again.
      Ahead<T> ahead = end < rows.end ? source_of_strip(task, end, std::min(kStripDepth, rows.end - end))
                                      : source_of_strip(next, rows.begin, std::min(kStripDepth, rows.end - rows.begin));
      const Index row_tiles = pieces(task.last_row - task.first_row, kernel.rows);
      const Index tiles = row_tiles * (task.last_panel - task.first_panel) * pieces(end - begin, kDepthBlock);
      const Index lines = pieces(2 * ahead.lines(), tiles), half = (task.first_row + task.last_row) / 2;
      for (Index i = task.first_row; i < task.last_row; i += kernel.rows)
        for (Index l = begin; l < end; l += kDepthBlock)
          for (Index j = first; j < last; j += kernel.columns) {
            if (i >= half) ahead.fetch(lines);
            kernel.tile(rows.deep(l), rows.panel(i, l), block(l) + (j - first) * rows.deep(l), panel_width(j),
                        c.data + (rows.row + i) * c.stride + j, c.stride, std::min(kernel.rows, rows.rows - i),
                        std::min(kernel.columns, c.cols - j), sum == Sum::accumulate || l > 0 ? kKeepAll<T> : nullptr);
          }
    }
  }

  template <class Body>
  void parallel(Index count, Index grain, const Body& body) const {
    if (is_one_task()) body(Index{0}, count);
    else parallel_for(count, grain, body);
  }

  void run_on(const PackedRows<T>& rows) const {
    const Index packs = pieces(rows.end - rows.begin, kDepthBlock) * rows.padded_rows / kernel.rows;
    parallel(packs, 8, [&](Index first, Index last) { pack(rows, first, last); });

    const Index team = is_one_task() ? 1 : threads_here();
    const std::vector<Task> tasks = cut(rows.rows, kernel.rows, panels(), team);
    const Index count = static_cast<Index>(tasks.size());
    const Index strip_size = std::min(panels(), kStripPanels) * kernel.columns * std::min(rows.end - rows.begin, kStripDepth);
    parallel(count, 1, [&](Index first, Index last) {
      const Buffer<T> strip = buffer<T>(strip_size);
      for (Index i = first; i < last; ++i) multiply(rows, tasks[i], tasks[std::min(i + team, count - 1)], strip.get());
    });
  }

  void run() const {
    const Index most_rows = rounded_up(pieces(c.rows, pieces(c.rows, kPackedRows)), kernel.rows);
    const Index at_once = panels() < kStripPanels ? kDepthBlock : kPackedDepth;  // a narrow C is added to again for little
    const Index most_depth = std::min(k, rounded_up(pieces(k, pieces(k, at_once)), kDepthBlock));
    const Buffer<T> packed = buffer<T>(most_rows * most_depth);
    for (Index row = 0; row < c.rows; row += most_rows)
      for (Index l = 0; l < k; l += most_depth) {
        const Index rows = std::min(most_rows, c.rows - row);
        run_on({row, rows, rounded_up(rows, kernel.rows), l, std::min(l + most_depth, k), packed.get()});
      }
  }
};

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
  Product<T>{gemm_kernels<T>().front(), a_source, b_source, c, k, sum}.run();
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
