// Products on machines with AVX-512F. The one source compiled for it.
#include <immintrin.h>

namespace assay::reference {
namespace {

constexpr int kTileRows = 8;  // 8 x 3 sums, 3 columns and a factor: 28 of 32 registers

template <class T>
struct Register;
template <>
struct Register<double> {
  using Type = __m512d;
  static constexpr int width = 8;
  static Type all(double x) { return _mm512_set1_pd(x); }
  static Type load(const double* p) { return _mm512_loadu_pd(p); }
  static void store(double* p, Type x) { _mm512_storeu_pd(p, x); }
  static Type add(Type a, Type b) { return _mm512_add_pd(a, b); }
  static Type multiply(Type a, Type b) { return _mm512_mul_pd(a, b); }
  static Type fma(Type a, Type b, Type c) { return _mm512_fmadd_pd(a, b, c); }
};
template <>
struct Register<float> {
  using Type = __m512;
  static constexpr int width = 16;
  static Type all(float x) { return _mm512_set1_ps(x); }
  static Type load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Type x) { _mm512_storeu_ps(p, x); }
  static Type add(Type a, Type b) { return _mm512_add_ps(a, b); }
  static Type multiply(Type a, Type b) { return _mm512_mul_ps(a, b); }
  static Type fma(Type a, Type b, Type c) { return _mm512_fmadd_ps(a, b, c); }
};

}  // namespace
}  // namespace assay::reference

#include "reference/gemm_kernel_body.inc"

namespace assay::reference {

template <class T>
GemmKernel<T> gemm_kernel_avx512() {
  return kernel<T>("avx512");
}
template GemmKernel<float> gemm_kernel_avx512();
template GemmKernel<double> gemm_kernel_avx512();

}  // namespace assay::reference
