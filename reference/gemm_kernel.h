// The inner part of a product, once for each instruction set: packs two operands and multiplies a tile of the result.
//
// Every element of the result is one chain of fma in ascending k, whatever the width of a register: all kernels give the
// same bits, and the machine may choose. Operands are packed in panels: `extent` rows of A, or columns of B, [depth][width],
// the width filled up with zeros.
#pragma once

#include <cstdint>
#include <span>

namespace assay::reference {

template <class T>
struct GemmKernel {
  using Index = std::int64_t;
  const char* name;
  Index rows, columns;   // of a whole tile
  Index register_width;  // a panel of fewer columns is a multiple of this wide

  // Element (i, l) of the panel, i < extent <= width, l < depth, at source[i * stride + l * depth_stride]; one of the two is 1.
  void (*pack)(const T* source, Index stride, Index depth_stride, Index extent, Index depth, Index width, T* panel);
  // C[m, n] = diag(keep) C + A B, or A B where keep is null; a [depth][rows], b [depth][width], width >= n a multiple of
  // register_width, at most columns. keep [rows].
  void (*tile)(Index depth, const T* a, const T* b, Index width, T* c, Index c_stride, Index m, Index n, const T* keep);
};

// Keeps all of C: C += A B.
template <class T>
inline constexpr T kKeepAll[] = {1, 1, 1, 1, 1, 1, 1, 1};

// Those that this machine can run, the fastest first.
template <class T>
std::span<const GemmKernel<T>> gemm_kernels();

// Of one instruction set each. To be called only on machines that have it.
template <class T>
GemmKernel<T> gemm_kernel_avx2();
template <class T>
GemmKernel<T> gemm_kernel_avx512();

}  // namespace assay::reference
