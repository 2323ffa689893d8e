// Products panel by panel, both operands packed: for layers that multiply each of them many times, or make one in the packed
// layout. On one thread; an element has the bits that gemm.h gives it. (packed_product.h packs the right-hand side alone.)
#pragma once

#include <algorithm>
#include <span>

#include "reference/packed_product.h"

namespace assay::reference {

// A [extent, depth] by rows, or B [depth, extent] by columns, in panels as gemm_kernel.h describes them: element l of row or
// column begin + r stands at panel[l * width + r]; what fills up the last panel is 0, or multiplied by nobody.
template <class T>
class PackedOperand {
 public:
  static PackedOperand rows() { return {kernel().rows, kernel().rows}; }
  static PackedOperand columns() { return {kernel().register_width, kernel().columns}; }

  // From now on of this size, with elements that are not defined.
  void resize(Index extent, Index depth) {
    extent_ = extent, depth_ = depth;
    const Index panels = std::max<Index>(1, (extent + most_ - 1) / most_);
    width_ = std::max(unit_, filled_up((extent + panels - 1) / panels));  // the last one hardly narrower than the others
    if (const Index size = filled_up(extent) * depth; size > capacity_) {
      data_ = buffer<T>(size);
      capacity_ = size;
    }
  }
  // Element (i, l), l along the depth, at source[i * stride + l * depth_stride]; one of the strides is 1.
  void pack(Index extent, Index depth, const T* source, Index stride, Index depth_stride) {
    resize(extent, depth);
    pack_depth(0, depth, source, stride, depth_stride);
  }
  // Of the depth [begin, end) alone.
  void pack_depth(Index begin, Index end, const T* source, Index stride, Index depth_stride) {
    for (Index i = 0; i < extent_; i += width_)
      kernel().pack(source + i * stride + begin * depth_stride, stride, depth_stride, std::min(width_, extent_ - i), end - begin, width(i),
                    panel(i) + begin * width(i));
  }

  Index extent() const { return extent_; }
  Index depth() const { return depth_; }
  Index step() const { return width_; }  // from one panel's begin to the next
  Index width(Index begin) const { return std::min(width_, filled_up(extent_ - begin)); }
  std::span<T> span() { return {data_.get(), static_cast<std::size_t>(filled_up(extent_) * depth_)}; }
  T* panel(Index begin) { return data_.get() + begin * depth_; }
  const T* panel(Index begin) const { return data_.get() + begin * depth_; }

 private:
  PackedOperand(Index unit, Index most) : unit_(unit), most_(most), width_(unit) {}
  static const GemmKernel<T>& kernel() { return gemm_kernels<T>().front(); }
  Index filled_up(Index extent) const { return (extent + unit_ - 1) / unit_ * unit_; }

  Index unit_, most_, width_, extent_ = 0, depth_ = 0, capacity_ = 0;
  Buffer<T> data_;
};

// C [m, n] = diag(keep) C + A B, or A B where keep is null, of one panel of rows and one of columns; the sum runs over the first
// `depth` elements. keep [a.step()].
template <class T>
void multiply_panels(const PackedOperand<T>& a, Index row, const PackedOperand<T>& b, Index column, Index depth, T* c, Index c_stride,
                     const T* keep = nullptr) {
  const Index height = a.step(), width = b.width(column);
  for (Index l = 0; l == 0 || l < depth; l += kDepthBlock)
    gemm_kernels<T>().front().tile(std::min(kDepthBlock, depth - l), a.panel(row) + l * height, b.panel(column) + l * width, width, c,
                                   c_stride, std::min(height, a.extent() - row), std::min(width, b.extent() - column),
                                   l > 0 ? kKeepAll<T> : keep);
}

}  // namespace assay::reference
