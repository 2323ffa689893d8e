// The body of a kernel, written on Register<T> and kTileRows of the source that includes it. That source alone is compiled
// for its instruction set, so everything here has internal linkage, and nothing comes from the standard library: no other
// source can end up with its code.
#pragma once

#include <immintrin.h>

#include "reference/gemm_kernel.h"

namespace assay::reference {
namespace {

using Index = std::int64_t;
constexpr Index kTileRegisters = 3;  // columns of a tile, in registers

// out[l][i] = in[i][l] for 4 x 4 elements.
inline void transpose(const double* in, Index in_stride, double* out, Index out_stride) {
  const __m256d r0 = _mm256_loadu_pd(in), r1 = _mm256_loadu_pd(in + in_stride);
  const __m256d r2 = _mm256_loadu_pd(in + 2 * in_stride), r3 = _mm256_loadu_pd(in + 3 * in_stride);
  const __m256d a = _mm256_unpacklo_pd(r0, r1), b = _mm256_unpackhi_pd(r0, r1);
  const __m256d c = _mm256_unpacklo_pd(r2, r3), d = _mm256_unpackhi_pd(r2, r3);
  _mm256_storeu_pd(out, _mm256_permute2f128_pd(a, c, 0x20));
  _mm256_storeu_pd(out + out_stride, _mm256_permute2f128_pd(b, d, 0x20));
  _mm256_storeu_pd(out + 2 * out_stride, _mm256_permute2f128_pd(a, c, 0x31));
  _mm256_storeu_pd(out + 3 * out_stride, _mm256_permute2f128_pd(b, d, 0x31));
}
inline void transpose(const float* in, Index in_stride, float* out, Index out_stride) {
  __m128 r0 = _mm_loadu_ps(in), r1 = _mm_loadu_ps(in + in_stride);
  __m128 r2 = _mm_loadu_ps(in + 2 * in_stride), r3 = _mm_loadu_ps(in + 3 * in_stride);
  _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
  _mm_storeu_ps(out, r0);
  _mm_storeu_ps(out + out_stride, r1);
  _mm_storeu_ps(out + 2 * out_stride, r2);
  _mm_storeu_ps(out + 3 * out_stride, r3);
}

// A whole panel whose width the compiler knows, from a source with the width's elements side by side.
template <Index width, class T>
void copy_panel(const T* source, Index depth_stride, Index depth, T* panel) {
  for (Index l = 0; l < depth; ++l, source += depth_stride, panel += width)
    for (Index i = 0; i < width; ++i) panel[i] = source[i];
}

template <class T>
void pack(const T* source, Index stride, Index depth_stride, Index extent, Index depth, Index width, T* panel) {
  constexpr Index w = Register<T>::width;
  if (stride == 1) {
    if (extent == kTileRows && width == kTileRows) return copy_panel<kTileRows>(source, depth_stride, depth, panel);
    if (extent == 3 * w && width == 3 * w) return copy_panel<3 * w>(source, depth_stride, depth, panel);
    if (extent == 2 * w && width == 2 * w) return copy_panel<2 * w>(source, depth_stride, depth, panel);
    for (Index l = 0; l < depth; ++l, source += depth_stride, panel += width) {
      for (Index i = 0; i < extent; ++i) panel[i] = source[i];
      for (Index i = extent; i < width; ++i) panel[i] = 0;
    }
    return;
  }
  Index i = 0;
  for (; i + 4 <= extent; i += 4) {
    Index l = 0;
    if (depth_stride == 1)
      for (; l + 4 <= depth; l += 4) transpose(source + i * stride + l, stride, panel + l * width + i, width);
    for (; l < depth; ++l)
      for (Index j = i; j < i + 4; ++j) panel[l * width + j] = source[j * stride + l * depth_stride];
  }
  for (; i < width; ++i)
    for (Index l = 0; l < depth; ++l) panel[l * width + i] = i < extent ? source[i * stride + l * depth_stride] : T(0);
}

template <class T, int registers>
void multiply(Index depth, const T* __restrict a, const T* __restrict b, T* __restrict c, Index c_stride, bool accumulate) {
  using R = Register<T>;
  typename R::Type sum[kTileRows][registers];
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < registers; ++j) sum[i][j] = R::all(0);
  for (int i = 0; i < kTileRows; ++i)  // the result is on its way while the sums are made
    for (int j = 0; j < registers; ++j) __builtin_prefetch(c + i * c_stride + j * R::width, 1);
  for (Index l = 0; l < depth; ++l, a += kTileRows, b += registers * R::width) {
    __builtin_prefetch(a + 16 * kTileRows);
    typename R::Type row[registers];
#pragma GCC unroll 3
    for (int j = 0; j < registers; ++j) row[j] = R::load(b + j * R::width);
#pragma GCC unroll 8
    for (int i = 0; i < kTileRows; ++i) {
      const typename R::Type factor = R::all(a[i]);
#pragma GCC unroll 3
      for (int j = 0; j < registers; ++j) sum[i][j] = R::fma(factor, row[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < registers; ++j) {
      T* out = c + i * c_stride + j * R::width;
      R::store(out, accumulate ? R::add(R::load(out), sum[i][j]) : sum[i][j]);
    }
}

template <class T>
void tile(Index depth, const T* a, const T* b, Index width, T* c, Index c_stride, Index m, Index n, bool accumulate) {
  constexpr Index w = Register<T>::width;
  const auto run = [&](T* to, Index to_stride, bool add) {
    width == 3 * w   ? multiply<T, 3>(depth, a, b, to, to_stride, add)
    : width == 2 * w ? multiply<T, 2>(depth, a, b, to, to_stride, add)
                     : multiply<T, 1>(depth, a, b, to, to_stride, add);
  };
  if (m == kTileRows && n == width) return run(c, c_stride, accumulate);
  T whole[kTileRows * kTileRegisters * w];  // the tile with what lies beyond the result
  run(whole, width, false);
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) c[i * c_stride + j] = accumulate ? c[i * c_stride + j] + whole[i * width + j] : whole[i * width + j];
}

template <class T>
GemmKernel<T> kernel(const char* name) {
  return {name, kTileRows, kTileRegisters * Register<T>::width, Register<T>::width, pack<T>, tile<T>};
}

}  // namespace
}  // namespace assay::reference
