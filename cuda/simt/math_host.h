// Device functions that CUDA documents with an error, on the CPU.
//
// Nominal arithmetic returns the nearest float. Hostile arithmetic returns a float as far from the exact value as the
// documentation permits, above or below as a hash of the argument's bits decides: the same for every thread, schedule
// and machine. Results that are documented as exact stay so (exp of 0, tanh of 0 and infinity, NaN, overflow), and no
// function leaves its range (|tanh| <= 1).
//
// name            error                                   source
// expf exp2f      2 ulp                                   CUDA C++ Programming Guide, Mathematical Functions,
// exp10f          2 ulp                                     "Single-Precision Standard Functions: maximum ulp error"
// expm1f          1 ulp                                     "
// logf log2f      1 ulp                                     "
// log10f          2 ulp                                     "
// log1pf          1 ulp                                     "
// rsqrtf          2 ulp                                     "
// sinf cosf       2 ulp                                     "
// tanhf           2 ulp                                     "
// sinhf           3 ulp, coshf 2 ulp                        "
// erff            2 ulp, erfcf 4 ulp                        "
// atanf           2 ulp, cbrtf 1 ulp                        "
// powf            4 ulp                                     "
// __expf          2 + floor(|1.173 x|) ulp                "Intrinsic Functions: single precision"
// __exp10f        2 + floor(|2.97 x|) ulp                   "
// __logf          2^-21.41 in [0.5, 2], else 3 ulp          "
// __log2f         2^-22 in [0.5, 2], else 2 ulp             "
// __log10f        2^-24 in [0.5, 2], else 3 ulp             "
// __sinf          2^-21.41, __cosf 2^-21.19 in [-pi, pi]    " (no bound outside; the same one is used)
// __fdividef      2 ulp; 0 for 2^126 < |y| < 2^128          "
// ex2.approx      relative 2^-22                          PTX ISA, Floating Point Instructions
// lg2.approx      2^-22 in (0.5, 2), else relative 2^-22    "
// rsqrt.approx    relative 2^-22.9                          "
// rcp.approx      1 ulp                                     "
// tanh.approx     relative 2^-11                            "
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
__half to_half(double x);
__nv_bfloat16 to_bfloat16(double x);

}  // namespace simt::host_math
