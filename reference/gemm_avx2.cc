// Products on machines with AVX2 and FMA.
#include <immintrin.h>

namespace assay::reference {
namespace {

constexpr int kTileRows = 4;  // 4 x 3 sums, 3 columns and a factor: 16 registers

template <class T>
struct Register;
template <>
struct Register<double> {
  using Type = __m256d;
  static constexpr int width = 4;
  static Type all(double x) { return _mm256_set1_pd(x); }
  static Type load(const double* p) { return _mm256_loadu_pd(p); }
  static void store(double* p, Type x) { _mm256_storeu_pd(p, x); }
  static Type add(Type a, Type b) { return _mm256_add_pd(a, b); }
  static Type multiply(Type a, Type b) { return _mm256_mul_pd(a, b); }
  static Type fma(Type a, Type b, Type c) { return _mm256_fmadd_pd(a, b, c); }
};
template <>
struct Register<float> {
  using Type = __m256;
  static constexpr int width = 8;
  static Type all(float x) { return _mm256_set1_ps(x); }
  static Type load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Type x) { _mm256_storeu_ps(p, x); }
  static Type add(Type a, Type b) { return _mm256_add_ps(a, b); }
  static Type multiply(Type a, Type b) { return _mm256_mul_ps(a, b); }
  static Type fma(Type a, Type b, Type c) { return _mm256_fmadd_ps(a, b, c); }
};

}  // namespace
}  // namespace assay::reference

#include "reference/gemm_kernel_body.inc"

namespace assay::reference {

template <class T>
GemmKernel<T> gemm_kernel_avx2() {
  return kernel<T>("avx2");
}
template GemmKernel<float> gemm_kernel_avx2();
template GemmKernel<double> gemm_kernel_avx2();

}  // namespace assay::reference
