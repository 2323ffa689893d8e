// Pack<T>: one AVX2 register of T. Everything here is an IEEE operation or moves bits, so a formula written on packs gives
// the same bits in every lane, on every machine with AVX2 and FMA, from every compiler that does not reassociate.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace assay::reference {

template <class T>
struct Pack;

template <>
struct Pack<double> {
  using Scalar = double;
  static constexpr int width = 4;
  __m256d v;

  static Pack all(double x) { return {_mm256_set1_pd(x)}; }
  static Pack load(const double* p) { return {_mm256_loadu_pd(p)}; }
  // The first n of the lanes, the others 0. 0 <= n <= width.
  static Pack load(const double* p, int n) { return {_mm256_maskload_pd(p, first(n))}; }
  void store(double* p) const { _mm256_storeu_pd(p, v); }
  void stream(double* p) const { _mm256_stream_pd(p, v); }  // past the caches; p aligned
  void store(double* p, int n) const { _mm256_maskstore_pd(p, first(n), v); }
  double lane0() const { return _mm256_cvtsd_f64(v); }
  double sum() const {  // (0 + 2) + (1 + 3)
    const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
  }

  friend Pack operator+(Pack a, Pack b) { return {_mm256_add_pd(a.v, b.v)}; }
  friend Pack operator-(Pack a, Pack b) { return {_mm256_sub_pd(a.v, b.v)}; }
  friend Pack operator*(Pack a, Pack b) { return {_mm256_mul_pd(a.v, b.v)}; }
  friend Pack operator/(Pack a, Pack b) { return {_mm256_div_pd(a.v, b.v)}; }
  friend Pack fma(Pack a, Pack b, Pack c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }    // a b + c
  friend Pack fnma(Pack a, Pack b, Pack c) { return {_mm256_fnmadd_pd(a.v, b.v, c.v)}; }  // c - a b
  friend Pack sqrt(Pack a) { return {_mm256_sqrt_pd(a.v)}; }
  friend Pack max(Pack a, Pack b) { return {_mm256_max_pd(a.v, b.v)}; }  // b if either is NaN
  friend Pack abs(Pack a) { return {_mm256_andnot_pd(_mm256_set1_pd(-0.0), a.v)}; }
  friend Pack operator-(Pack a) { return {_mm256_xor_pd(_mm256_set1_pd(-0.0), a.v)}; }
  // x within [low, high]; NaN stays NaN.
  friend Pack clamp(Pack x, Pack low, Pack high) { return {_mm256_min_pd(high.v, _mm256_max_pd(low.v, x.v))}; }
  // Comparisons give masks, for select alone. False for NaN.
  friend Pack operator<(Pack a, Pack b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_LT_OQ)}; }
  friend Pack operator==(Pack a, Pack b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_EQ_OQ)}; }
  friend Pack select(Pack mask, Pack yes, Pack no) { return {_mm256_blendv_pd(no.v, yes.v, mask.v)}; }

  // Of 4 x 4 elements.
  friend void transpose(Pack (&rows)[width]) {
    const __m256d a = _mm256_unpacklo_pd(rows[0].v, rows[1].v), b = _mm256_unpackhi_pd(rows[0].v, rows[1].v);
    const __m256d c = _mm256_unpacklo_pd(rows[2].v, rows[3].v), d = _mm256_unpackhi_pd(rows[2].v, rows[3].v);
    rows[0].v = _mm256_permute2f128_pd(a, c, 0x20);
    rows[1].v = _mm256_permute2f128_pd(b, d, 0x20);
    rows[2].v = _mm256_permute2f128_pd(a, c, 0x31);
    rows[3].v = _mm256_permute2f128_pd(b, d, 0x31);
  }

  // 2^n for integral n in [-1022, 1023]: n + bias lands in the low mantissa bits, which become the exponent.
  friend Pack exp2_integer(Pack n) {
    const __m256d shifted = _mm256_add_pd(n.v, _mm256_set1_pd(0x1.8p52 + 1023));
    return {_mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(shifted), 52))};
  }
  // x = m * 2^e with m in [sqrt(1/2), sqrt(2)), for normal x > 0.
  friend void split_exponent(Pack x, Pack& m, Pack& e) {
    const __m256i bits = _mm256_castpd_si256(x.v), one = _mm256_set1_epi64x(0x3ff0000000000000);
    const __m256i biased = _mm256_add_epi64(bits, _mm256_set1_epi64x(0x3ff0000000000000 - 0x3fe6a09e667f3bcd));
    const __m256i exponent = _mm256_and_si256(biased, _mm256_set1_epi64x(0x7ff0000000000000));
    m.v = _mm256_castsi256_pd(_mm256_sub_epi64(bits, _mm256_sub_epi64(exponent, one)));
    const __m256i as_mantissa = _mm256_or_si256(_mm256_srli_epi64(exponent, 52), _mm256_set1_epi64x(0x4330000000000000));
    e.v = _mm256_sub_pd(_mm256_castsi256_pd(as_mantissa), _mm256_set1_pd(0x1p52 + 1023));
  }

 private:
  static __m256i first(int n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
  }
};

template <>
struct Pack<float> {
  using Scalar = float;
  static constexpr int width = 8;
  __m256 v;

  static Pack all(float x) { return {_mm256_set1_ps(x)}; }
  static Pack load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Pack load(const float* p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void stream(float* p) const { _mm256_stream_ps(p, v); }
  void store(float* p, int n) const { _mm256_maskstore_ps(p, first(n), v); }
  float lane0() const { return _mm256_cvtss_f32(v); }
  float sum() const {  // ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7))
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps(quarter, quarter, 1)));
  }

  friend Pack operator+(Pack a, Pack b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Pack operator-(Pack a, Pack b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Pack operator*(Pack a, Pack b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend Pack operator/(Pack a, Pack b) { return {_mm256_div_ps(a.v, b.v)}; }
  friend Pack fma(Pack a, Pack b, Pack c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  friend Pack fnma(Pack a, Pack b, Pack c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
  friend Pack sqrt(Pack a) { return {_mm256_sqrt_ps(a.v)}; }
  friend Pack max(Pack a, Pack b) { return {_mm256_max_ps(a.v, b.v)}; }
  friend Pack abs(Pack a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
  friend Pack operator-(Pack a) { return {_mm256_xor_ps(_mm256_set1_ps(-0.0f), a.v)}; }
  friend Pack clamp(Pack x, Pack low, Pack high) { return {_mm256_min_ps(high.v, _mm256_max_ps(low.v, x.v))}; }
  friend Pack operator<(Pack a, Pack b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
  friend Pack operator==(Pack a, Pack b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
  friend Pack select(Pack mask, Pack yes, Pack no) { return {_mm256_blendv_ps(no.v, yes.v, mask.v)}; }

  // Of 8 x 8 elements: pairs, then fours within the halves of each register, then the halves.
  friend void transpose(Pack (&rows)[width]) {
    __m256 fours[width];
    for (int i = 0; i < width; i += 4) {
      const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(rows[i].v, rows[i + 1].v));
      const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(rows[i].v, rows[i + 1].v));
      const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(rows[i + 2].v, rows[i + 3].v));
      const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(rows[i + 2].v, rows[i + 3].v));
      fours[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
      fours[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
      fours[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
      fours[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; ++i) {
      rows[i].v = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
      rows[i + 4].v = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
    }
  }

  // For integral n in [-126, 127].
  friend Pack exp2_integer(Pack n) {
    const __m256 shifted = _mm256_add_ps(n.v, _mm256_set1_ps(0x1.8p23f + 127));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23))};
  }
  friend void split_exponent(Pack x, Pack& m, Pack& e) {
    const __m256i bits = _mm256_castps_si256(x.v), one = _mm256_set1_epi32(0x3f800000);
    const __m256i biased = _mm256_add_epi32(bits, _mm256_set1_epi32(0x3f800000 - 0x3f3504f3));
    const __m256i exponent = _mm256_and_si256(biased, _mm256_set1_epi32(0x7f800000));
    m.v = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_sub_epi32(exponent, one)));
    const __m256i as_mantissa = _mm256_or_si256(_mm256_srli_epi32(exponent, 23), _mm256_set1_epi32(0x4b000000));
    e.v = _mm256_sub_ps(_mm256_castsi256_ps(as_mantissa), _mm256_set1_ps(0x1p23f + 127));
  }

 private:
  static __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

// Whole packs of an array, and what is left of it: both load and store the elements from `at` on.
template <class T>
struct WholePack {
  std::int64_t at;
  Pack<T> load(const T* p) const { return Pack<T>::load(p + at); }
  void store(T* p, Pack<T> x) const { x.store(p + at); }
};
template <class T>
struct PartOfPack {
  std::int64_t at;
  int count;
  Pack<T> load(const T* p) const { return Pack<T>::load(p + at, count); }
  void store(T* p, Pack<T> x) const { x.store(p + at, count); }
};

// body(lanes) for every pack of [0, n); lanes is one of the two above.
template <class T, class Body>
void for_packs(std::int64_t n, const Body& body) {
  std::int64_t i = 0;
  for (; i + Pack<T>::width <= n; i += Pack<T>::width) body(WholePack<T>{i});
  if (i < n) body(PartOfPack<T>{i, static_cast<int>(n - i)});
}

}  // namespace assay::reference
