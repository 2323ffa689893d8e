// Fast arithmetic: PTX's approximate instructions, and on the CPU the device functions that host headers lack.
//
// expf, logf, tanhf and the other libm names that CUDA documents with an error are answered by math_host.cc on the CPU,
// so that hostile schedules reach them, too; the errors stand in math_host.h. +, *, /, sqrtf and fmaf are exact there.
#pragma once

#include "cuda/simt/platform.cuh"

#if SIMT_HOST
#include "cuda/simt/math_host.h"

inline float __expf(float x) { return simt::host_math::fast_expf(x); }
inline float __exp10f(float x) { return simt::host_math::fast_exp10f(x); }
inline float __logf(float x) { return simt::host_math::fast_logf(x); }
inline float __log2f(float x) { return simt::host_math::fast_log2f(x); }
inline float __log10f(float x) { return simt::host_math::fast_log10f(x); }
inline float __sinf(float x) { return simt::host_math::fast_sinf(x); }
inline float __cosf(float x) { return simt::host_math::fast_cosf(x); }
inline float __powf(float x, float y) { return simt::host_math::approx_ex2(y * simt::host_math::fast_log2f(x)); }
inline float __fdividef(float x, float y) { return simt::host_math::fast_fdividef(x, y); }
inline float rsqrtf(float x) { return simt::host_math::device_rsqrtf(x); }

// Exactly rounded, by name.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __frsqrt_rn(float a) { return static_cast<float>(1.0 / sqrt(static_cast<double>(a))); }

inline float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
inline int __float_as_int(float x) { return __builtin_bit_cast(int, x); }
inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
inline float __saturatef(float x) { return x >= 1.0f ? 1.0f : x > 0.0f ? x : 0.0f; }  // NaN gives 0
#endif

namespace simt {

// 2^x, denormal results are flushed to zero.
SIMT_DEV float fast_exp2(float x) {
#if SIMT_HOST
  return host_math::approx_ex2(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}
// log2(x), denormal arguments count as zero.
SIMT_DEV float fast_log2(float x) {
#if SIMT_HOST
  return host_math::approx_lg2(x);
#else
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}
SIMT_DEV float fast_rsqrt(float x) {
#if SIMT_HOST
  return host_math::approx_rsqrt(x);
#else
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}
SIMT_DEV float fast_rcp(float x) {
#if SIMT_HOST
  return host_math::approx_rcp(x);
#else
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}
SIMT_DEV float fast_tanh(float x) {
#if SIMT_HOST
  return host_math::approx_tanh(x);
#else
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

}  // namespace simt
