#include "cuda/simt/math_host.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "cuda/simt/exec/counting.h"
#include "cuda/simt/exec/thread.h"

// The libm names below are called by kernels as the compiler pleases, under MSan without passing shadow: they take
// their argument as initialised, and the caller carries its shadow over the call.
#if defined(__clang__)
#define SIMT_LIBM extern "C" __attribute__((no_sanitize("memory")))
#define SIMT_HELPER __attribute__((no_sanitize("memory"), always_inline)) inline
#else
#define SIMT_LIBM extern "C"
#define SIMT_HELPER inline
#endif

namespace simt {

bool hostile_arithmetic = false;

namespace {

constexpr double kSmallestNormal = std::numeric_limits<float>::min();

// The spacing of floats at `value`.
SIMT_HELPER double ulp(double value) {
  const double magnitude = value < 0 ? -value : value;
  if (magnitude < kSmallestNormal) return 0x1p-149;
  const auto exponent = static_cast<std::int64_t>(__builtin_bit_cast(std::uint64_t, magnitude) >> 52);
  return __builtin_bit_cast(double, static_cast<std::uint64_t>(exponent - 23) << 52);
}

SIMT_HELPER bool upward(std::uint32_t bits) { return (bits * 0x9E3779B1u) >> 31; }
SIMT_HELPER std::uint32_t bits_of(float x) { return __builtin_bit_cast(std::uint32_t, x); }

SIMT_HELPER void count_special_function() {
  if (ThreadLog* log = current_log(); log != nullptr) ++log->special_functions;
}

// A float within `error` of `exact`: the nearest one, or under hostile arithmetic the furthest in the direction that
// `bits` choose.
SIMT_HELPER float within(double exact, double error, std::uint32_t bits) {
  count_special_function();
  const float nearest = static_cast<float>(exact);
  const bool special = exact != exact || exact == 0 || nearest == 0 ||
                       nearest == std::numeric_limits<float>::infinity() ||
                       nearest == -std::numeric_limits<float>::infinity();
  if (!hostile_arithmetic || current_thread == nullptr || special) return nearest;
  const double aim = upward(bits) ? exact + error : exact - error;
  float result = static_cast<float>(aim);
  const double off = static_cast<double>(result) - exact;
  if ((off < 0 ? -off : off) > error) {  // rounded out of the bound: one float back, towards the exact value
    const auto pattern = bits_of(result);
    const bool away_from_zero = (result < 0 ? -result : result) > (exact < 0 ? -exact : exact);
    result = __builtin_bit_cast(float, away_from_zero ? pattern - 1 : pattern + 1);
  }
  return result;
}
// Ulps from the nearest float, at a power of two the smaller ones of its two sides.
SIMT_HELPER float within_ulps(double exact, double ulps, std::uint32_t bits) {
  const float nearest = static_cast<float>(exact);
  const float towards_zero = __builtin_bit_cast(float, bits_of(nearest) - 1);
  return within(nearest, ulps * ulp(towards_zero), bits);
}
SIMT_HELPER float within_relative(double exact, double relative, std::uint32_t bits) {
  return within(exact, relative * (exact < 0 ? -exact : exact), bits);
}
SIMT_HELPER float in_unit_range(float y) { return y > 1.0f ? 1.0f : y < -1.0f ? -1.0f : y; }
SIMT_HELPER float flush(float y) {  // .ftz: a denormal becomes a zero of its sign
  return (y < 0 ? -y : y) < std::numeric_limits<float>::min() ? __builtin_copysignf(0.0f, y) : y;
}
// e^0 = 1 is documented as exact, so is every function at the argument where its value is 0.
SIMT_HELPER float exponential(double exact, double ulps, float x) {
  const float y = within_ulps(exact, ulps, bits_of(x));
  return x == 0 ? 1.0f : y;
}

}  // namespace

namespace host_math {

float device_rsqrtf(float x) { return within_ulps(1.0 / std::sqrt(static_cast<double>(x)), 2, bits_of(x)); }

float fast_expf(float x) {
  return exponential(std::exp(static_cast<double>(x)), 2 + std::floor(std::abs(1.173 * x)), x);
}
float fast_exp10f(float x) {
  return exponential(std::exp(x * std::numbers::ln10), 2 + std::floor(std::abs(2.97 * x)), x);
}
namespace {
float fast_logarithm(double exact, float x, double absolute_near_one, double ulps) {
  const bool near_one = x >= 0.5f && x <= 2.0f;
  return near_one ? within(exact, absolute_near_one, bits_of(x)) : within_ulps(exact, ulps, bits_of(x));
}
}  // namespace
float fast_logf(float x) { return fast_logarithm(std::log(static_cast<double>(x)), x, 0x1p-22 * 1.5052, 3); }
float fast_log2f(float x) { return fast_logarithm(std::log2(static_cast<double>(x)), x, 0x1p-22, 2); }
float fast_log10f(float x) { return fast_logarithm(std::log10(static_cast<double>(x)), x, 0x1p-24, 3); }
namespace {
// Absolute errors: __sinf's or __cosf's own up to pi, then those of the instructions that they are made of.
double angle_error(float x, double up_to_pi) {
  const double angle = std::abs(x);
  return angle <= std::numbers::pi ? up_to_pi : angle <= 2 * std::numbers::pi ? 0x1p-21 * 1.4142 : 0x1p-15 * 1.2311;
}
}  // namespace
float fast_sinf(float x) {
  return in_unit_range(within(std::sin(static_cast<double>(x)), angle_error(x, 0x1p-22 * 1.5052), bits_of(x)));
}
float fast_cosf(float x) {
  const double exact = std::cos(static_cast<double>(x));
  const float y = in_unit_range(within(exact, angle_error(x, 0x1p-22 * 1.7532), bits_of(x)));
  return flush(x) == 0 ? 1.0f : y;
}
float fast_fdividef(float x, float y) {
  const float quotient = within_ulps(static_cast<double>(x) / static_cast<double>(y), 2, bits_of(x) ^ bits_of(y) * 31);
  const bool huge = std::abs(y) > 0x1p126f && std::isfinite(y);
  return !huge ? quotient : std::isinf(x) ? x - x : 0.0f * x;
}

namespace {
SIMT_HELPER double counted(double result) {
  count_special_function();
  return result;
}
}  // namespace

float approx_ex2(float x) {
  const float y = flush(within_ulps(std::exp2(static_cast<double>(x)), 2, bits_of(x)));
  return flush(x) == 0 ? 1.0f : y;
}
float approx_lg2(float x) {
  const double exact = std::log2(static_cast<double>(flush(x)));
  return x > 0.5f && x < 2.0f ? within(exact, 0x1p-22, bits_of(x)) : within_relative(exact, 0x1p-22, bits_of(x));
}
float approx_rsqrt(float x) {
  return within_relative(1.0 / std::sqrt(static_cast<double>(flush(x))), 0x1p-23 * 1.0718, bits_of(x));
}
float approx_rcp(float x) { return flush(within_ulps(1.0 / static_cast<double>(flush(x)), 1, bits_of(x))); }
float approx_tanh(float x) {
  return in_unit_range(within_relative(std::tanh(static_cast<double>(x)), 0x1p-11, bits_of(x)));
}

double double_exp(double x) { return counted(std::exp(x)); }
double double_exp2(double x) { return counted(std::exp2(x)); }
double double_log(double x) { return counted(std::log(x)); }
double double_log2(double x) { return counted(std::log2(x)); }
double double_sqrt(double x) { return counted(std::sqrt(x)); }
double double_rsqrt(double x) { return counted(1 / std::sqrt(x)); }
double double_rcp(double x) { return counted(1 / x); }
double to_odd(double sum, double a, double b, double c) {
  const double product = a * b;  // exact
  const double part = sum - product, lost = (product - (sum - part)) + (c - part);
  const bool exact_or_odd = lost == 0 || (__builtin_bit_cast(std::uint64_t, sum) & 1) != 0;
  return exact_or_odd || !std::isfinite(sum) ? sum : std::nextafter(sum, lost > 0 ? HUGE_VAL : -HUGE_VAL);
}
__half to_half(double x) { return __double2half(x); }
__nv_bfloat16 to_bfloat16(double x) { return __double2bfloat16(x); }

}  // namespace host_math
}  // namespace simt

// ---- libm names: CUDA's standard functions. Outside kernels they return the nearest float.
using simt::bits_of;
using simt::exponential;
using simt::in_unit_range;
using simt::within_ulps;

SIMT_LIBM float expf(float x) { return exponential(std::exp(double{x}), 2, x); }
SIMT_LIBM float exp2f(float x) { return exponential(std::exp2(double{x}), 2, x); }
SIMT_LIBM float expm1f(float x) { return within_ulps(std::expm1(double{x}), 1, bits_of(x)); }
SIMT_LIBM float logf(float x) { return within_ulps(std::log(double{x}), 1, bits_of(x)); }
SIMT_LIBM float log2f(float x) { return within_ulps(std::log2(double{x}), 1, bits_of(x)); }
SIMT_LIBM float log10f(float x) { return within_ulps(std::log10(double{x}), 2, bits_of(x)); }
SIMT_LIBM float log1pf(float x) { return within_ulps(std::log1p(double{x}), 1, bits_of(x)); }
SIMT_LIBM float sinf(float x) { return in_unit_range(within_ulps(std::sin(double{x}), 2, bits_of(x))); }
SIMT_LIBM float cosf(float x) {
  const float y = in_unit_range(within_ulps(std::cos(double{x}), 2, bits_of(x)));
  return x == 0 ? 1.0f : y;
}
SIMT_LIBM float tanhf(float x) { return in_unit_range(within_ulps(std::tanh(double{x}), 2, bits_of(x))); }
SIMT_LIBM float sinhf(float x) { return within_ulps(std::sinh(double{x}), 3, bits_of(x)); }
SIMT_LIBM float coshf(float x) { return exponential(std::cosh(double{x}), 2, x); }
SIMT_LIBM float erff(float x) { return in_unit_range(within_ulps(std::erf(double{x}), 2, bits_of(x))); }
SIMT_LIBM float erfcf(float x) { return exponential(std::erfc(double{x}), 4, x); }
SIMT_LIBM float atanf(float x) { return within_ulps(std::atan(double{x}), 2, bits_of(x)); }
SIMT_LIBM float cbrtf(float x) { return within_ulps(std::cbrt(double{x}), 1, bits_of(x)); }
SIMT_LIBM float powf(float x, float y) {
  const float power = within_ulps(std::pow(double{x}, double{y}), 4, bits_of(x) ^ bits_of(y) * 31);
  return x == 1.0f || y == 0.0f ? 1.0f : power;
}
