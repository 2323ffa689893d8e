// Device functions that CUDA documents with an error, on the CPU.
//
// Nominal arithmetic returns the nearest float. Hostile arithmetic returns a float as far from the exact value as the
// documentation permits, above or below as a hash of the argument's bits decides: the same for every thread, schedule
// and machine. Results that are documented as exact stay so (exp of 0, tanh of 0 and infinity, NaN, overflow), and no
// function leaves its range (|tanh| <= 1).
//
// Sources. [G] CUDA C++ Programming Guide, 17.1 Standard Functions (table 17) and 17.2 Intrinsic Functions. [P] PTX ISA
// 9.1, 9.7.3 Floating Point Instructions. [H] cuda_fp16.h and cuda_bf16.h. [G] and ex2 count ulps from the correctly
// rounded result, so n ulp is up to n + 1/2 from the exact value; rcp, whose page does not say, is counted alike.
//
// name                         error                                                       source
// expf exp2f                   2 ulp                                                       [G]
// expm1f                       1 ulp                                                       [G]
// logf log2f log1pf            1 ulp; log10f 2 ulp                                         [G]
// rsqrtf sinf cosf tanhf       2 ulp                                                       [G]
// sinhf                        3 ulp; coshf 2 ulp                                          [G]
// erff atanf                   2 ulp; erfcf 4 ulp; cbrtf 1 ulp; powf 4 ulp                 [G]
// __expf                       2 + floor(|1.173 x|) ulp                                    [G]
// __exp10f                     2 + floor(|2.97 x|) ulp                                     [G]
// __logf                       2^-21.41 in [0.5, 2], else 3 ulp                            [G]
// __log2f                      2^-22 in [0.5, 2], else 2 ulp                               [G]
// __log10f                     2^-24 in [0.5, 2], else 3 ulp                               [G]
// __sinf, __cosf               2^-21.41, 2^-21.19 in [-pi, pi]                             [G]
//                              2^-20.5 in [-2 pi, 2 pi], 2^-14.7 in [-100 pi, 100 pi]      [P] sin.approx, cos.approx
// __powf                       that of ex2.approx(y * __log2f(x))                          [G]
// __fdividef                   2 ulp; 0 for 2^126 < |y| < 2^128                            [G]
// ex2.approx                   2 ulp                                                       [P]
// lg2.approx                   2^-22 in (0.5, 2), else relative 2^-22                      [P]
// rsqrt.approx                 relative 2^-22.9                                            [P]
// rcp.approx                   1 ulp                                                       [P]
// tanh.approx                  relative 2^-11                                              [P]
// hexp hlog hsqrt hrcp, ...    none: rounded to nearest, for half and bfloat16             [H]
// exp, log, ... of double      libm's own, never hostile, though [G] gives them 1 or 2 ulp
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace simt::host_math {

float device_rsqrtf(float x);

float fast_expf(float x);
float fast_exp10f(float x);
float fast_logf(float x);
float fast_log2f(float x);
float fast_log10f(float x);
float fast_sinf(float x);
float fast_cosf(float x);
float fast_fdividef(float x, float y);

float approx_ex2(float x);
float approx_lg2(float x);
float approx_rsqrt(float x);
float approx_rcp(float x);
float approx_tanh(float x);

// For the half and bfloat16 functions: exact to double, to be rounded once. Out of line, so that counting sees one
// special function and none of the arithmetic behind it.
double double_exp(double x);
double double_exp2(double x);
double double_log(double x);
double double_log2(double x);
double double_sqrt(double x);
double double_rsqrt(double x);
double double_rcp(double x);
// `sum` = a b + c as a double; if that is inexact, with an odd last bit: then it is no tie of a shorter type, as which
// it would be rounded to the wrong side (bfloat16: a product halfway between two numbers, and a c of 2^-60).
double to_odd(double sum, double a, double b, double c);
__half to_half(double x);
__nv_bfloat16 to_bfloat16(double x);

}  // namespace simt::host_math
