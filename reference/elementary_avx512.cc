// The formulas of elementary_pack.h on registers of AVX-512F, for which this source alone is compiled. As in
// gemm_kernel_body.inc everything has internal linkage, and nothing comes from the standard library.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own _mm512_undefined_pd()
#endif
#include <immintrin.h>

#include "reference/elementary_kernel.h"
#include "reference/elementary_pack.h"

namespace assay::reference {
namespace {

template <class T>
struct WidePack;

template <>
struct WidePack<double> {
  using Scalar = double;
  using Mask = __mmask8;
  static constexpr int width = 8;
  __m512d v;

  static WidePack all(double x) { return {_mm512_set1_pd(x)}; }
  static WidePack load(const double* p, Mask lanes) { return {_mm512_maskz_loadu_pd(lanes, p)}; }
  void store(double* p, Mask lanes) const { _mm512_mask_storeu_pd(p, lanes, v); }

  friend WidePack operator+(WidePack a, WidePack b) { return {_mm512_add_pd(a.v, b.v)}; }
  friend WidePack operator-(WidePack a, WidePack b) { return {_mm512_sub_pd(a.v, b.v)}; }
  friend WidePack operator*(WidePack a, WidePack b) { return {_mm512_mul_pd(a.v, b.v)}; }
  friend WidePack operator/(WidePack a, WidePack b) { return {_mm512_div_pd(a.v, b.v)}; }
  friend WidePack fma(WidePack a, WidePack b, WidePack c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
  friend WidePack fnma(WidePack a, WidePack b, WidePack c) { return {_mm512_fnmadd_pd(a.v, b.v, c.v)}; }
  friend WidePack abs(WidePack a) { return {_mm512_abs_pd(a.v)}; }
  friend WidePack operator-(WidePack a) {
    return {_mm512_castsi512_pd(_mm512_xor_si512(_mm512_castpd_si512(a.v), _mm512_castpd_si512(_mm512_set1_pd(-0.0))))};
  }
  friend WidePack clamp(WidePack x, WidePack low, WidePack high) { return {_mm512_min_pd(high.v, _mm512_max_pd(low.v, x.v))}; }
  friend Mask operator<(WidePack a, WidePack b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ); }
  friend WidePack select(Mask mask, WidePack yes, WidePack no) { return {_mm512_mask_blend_pd(mask, no.v, yes.v)}; }
  friend WidePack scaled_by_power(WidePack x, WidePack n) { return {_mm512_scalef_pd(x.v, n.v)}; }
};

template <>
struct WidePack<float> {
  using Scalar = float;
  using Mask = __mmask16;
  static constexpr int width = 16;
  __m512 v;

  static WidePack all(float x) { return {_mm512_set1_ps(x)}; }
  static WidePack load(const float* p, Mask lanes) { return {_mm512_maskz_loadu_ps(lanes, p)}; }
  void store(float* p, Mask lanes) const { _mm512_mask_storeu_ps(p, lanes, v); }

  friend WidePack operator+(WidePack a, WidePack b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend WidePack operator-(WidePack a, WidePack b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend WidePack operator*(WidePack a, WidePack b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend WidePack operator/(WidePack a, WidePack b) { return {_mm512_div_ps(a.v, b.v)}; }
  friend WidePack fma(WidePack a, WidePack b, WidePack c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  friend WidePack fnma(WidePack a, WidePack b, WidePack c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
  friend WidePack abs(WidePack a) { return {_mm512_abs_ps(a.v)}; }
  friend WidePack operator-(WidePack a) {
    return {_mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a.v), _mm512_castps_si512(_mm512_set1_ps(-0.0f))))};
  }
  friend WidePack clamp(WidePack x, WidePack low, WidePack high) { return {_mm512_min_ps(high.v, _mm512_max_ps(low.v, x.v))}; }
  friend Mask operator<(WidePack a, WidePack b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
  friend WidePack select(Mask mask, WidePack yes, WidePack no) { return {_mm512_mask_blend_ps(mask, no.v, yes.v)}; }
  friend WidePack scaled_by_power(WidePack x, WidePack n) { return {_mm512_scalef_ps(x.v, n.v)}; }
};

template <class T, class F>
void map(const T* x, T* y, std::int64_t n, const F& f) {
  using P = WidePack<T>;
  using Mask = typename P::Mask;
  std::int64_t i = 0;
  for (; i + P::width <= n; i += P::width) f(P::load(x + i, static_cast<Mask>(-1))).store(y + i, static_cast<Mask>(-1));
  if (i == n) return;
  const auto rest = static_cast<Mask>((1u << (n - i)) - 1);
  f(P::load(x + i, rest)).store(y + i, rest);
}

template <class T>
void exp(const T* x, T* y, std::int64_t n, T scale) {
  map(x, y, n, [s = WidePack<T>::all(scale)](WidePack<T> v) { return pack::exp(v) * s; });
}
template <class T>
void silu(const T* x, T* y, std::int64_t n, T scale) {
  map(x, y, n, [s = WidePack<T>::all(scale)](WidePack<T> v) { return pack::silu(v, s); });
}

}  // namespace

template <class T>
ElementaryKernel<T> elementary_kernel_avx512() {
  return {"avx512", exp<T>, silu<T>};
}
template ElementaryKernel<float> elementary_kernel_avx512();
template ElementaryKernel<double> elementary_kernel_avx512();

}  // namespace assay::reference
