// Conversions and packed arithmetic that CUDA's headers offer on a GPU alone, and tf32.
//
// bf16, half and fp8 types, their conversions, + - * / and comparisons come from CUDA's headers on both sides.
#pragma once

#include "cuda/simt/platform.cuh"

#if SIMT_HOST
#include "cuda/simt/math_host.h"

namespace simt::host_half {

inline __nv_bfloat16 round(double x, __nv_bfloat16) { return host_math::to_bfloat16(x); }
inline __half round(double x, __half) { return host_math::to_half(x); }
inline double widen(__nv_bfloat16 x) { return static_cast<double>(__bfloat162float(x)); }
inline double widen(__half x) { return static_cast<double>(__half2float(x)); }
template <class H>
inline H fma(H a, H b, H c) {
  const double sum = std::fma(widen(a), widen(b), widen(c));
  return round(host_math::to_odd(sum, widen(a), widen(b), widen(c)), H{});
}
template <class H>
inline H function(double (*exact)(double), H x) {
  return round(exact(widen(x)), H{});
}
template <class H>
inline H relu(H x) {
  return widen(x) > 0 ? x : std::isnan(widen(x)) ? x : round(0.0, H{});
}
template <class H2, class Function>
inline H2 both(H2 a, Function function) {
  H2 result;
  result.x = function(a.x);
  result.y = function(a.y);
  return result;
}

}  // namespace simt::host_half

#define SIMT_HALF(H, H2)                                                                       \
  inline H __hfma(H a, H b, H c) { return simt::host_half::fma(a, b, c); }                     \
  inline H __hfma_relu(H a, H b, H c) { return simt::host_half::relu(__hfma(a, b, c)); }       \
  inline H hexp(H a) { return simt::host_half::function(simt::host_math::double_exp, a); }     \
  inline H hexp2(H a) { return simt::host_half::function(simt::host_math::double_exp2, a); }   \
  inline H hlog(H a) { return simt::host_half::function(simt::host_math::double_log, a); }     \
  inline H hlog2(H a) { return simt::host_half::function(simt::host_math::double_log2, a); }   \
  inline H hsqrt(H a) { return simt::host_half::function(simt::host_math::double_sqrt, a); }   \
  inline H hrsqrt(H a) { return simt::host_half::function(simt::host_math::double_rsqrt, a); } \
  inline H hrcp(H a) { return simt::host_half::function(simt::host_math::double_rcp, a); }     \
  inline H2 __hfma2(H2 a, H2 b, H2 c) {                                                        \
    H2 result;                                                                                 \
    result.x = __hfma(a.x, b.x, c.x);                                                          \
    result.y = __hfma(a.y, b.y, c.y);                                                          \
    return result;                                                                             \
  }                                                                                            \
  inline H2 h2exp(H2 a) {                                                                      \
    return simt::host_half::both(a, [](H x) { return hexp(x); });                              \
  }                                                                                            \
  inline H2 h2exp2(H2 a) {                                                                     \
    return simt::host_half::both(a, [](H x) { return hexp2(x); });                             \
  }                                                                                            \
  inline H2 h2log(H2 a) {                                                                      \
    return simt::host_half::both(a, [](H x) { return hlog(x); });                              \
  }                                                                                            \
  inline H2 h2sqrt(H2 a) {                                                                     \
    return simt::host_half::both(a, [](H x) { return hsqrt(x); });                             \
  }                                                                                            \
  inline H2 h2rsqrt(H2 a) {                                                                    \
    return simt::host_half::both(a, [](H x) { return hrsqrt(x); });                            \
  }                                                                                            \
  inline H2 h2rcp(H2 a) {                                                                      \
    return simt::host_half::both(a, [](H x) { return hrcp(x); });                              \
  }
SIMT_HALF(__nv_bfloat16, __nv_bfloat162)
SIMT_HALF(__half, __half2)
#undef SIMT_HALF
#endif  // SIMT_HOST

namespace simt {

// cvt.rna.tf32.f32: 10 bits of fraction, to nearest, ties away from zero; as the bits that mma_tf32_1688 takes.
SIMT_DEV std::uint32_t to_tf32(float x) {
#if SIMT_HOST
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, x);
  const bool finite = (bits & 0x7F800000u) != 0x7F800000u;
  return finite ? (bits + 0x1000u) & ~0x1FFFu : bits;
#else
  std::uint32_t y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return y;
#endif
}

}  // namespace simt
