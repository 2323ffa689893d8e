// Small floating-point formats by arithmetic on their fields: the scalar model of CUDA's conversions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace simt::selftest {

struct FloatFormat {
  int exponent_bits, fraction_bits;
  bool has_infinity;  // e4m3 has none, and its largest exponent holds numbers but for the last code, NaN
};
inline constexpr FloatFormat kHalf{5, 10, true}, kBf16{8, 7, true}, kTf32{8, 10, true}, kE5m2{5, 2, true},
    kE4m3{4, 3, false};

inline int bias(FloatFormat f) { return (1 << (f.exponent_bits - 1)) - 1; }
inline std::uint32_t nan_bits(FloatFormat f) { return (1u << (f.exponent_bits + f.fraction_bits)) - 1; }
inline std::uint32_t infinity_bits(FloatFormat f) { return ((1u << f.exponent_bits) - 1) << f.fraction_bits; }
inline std::uint32_t largest_bits(FloatFormat f) { return f.has_infinity ? infinity_bits(f) - 1 : nan_bits(f) - 1; }

inline double decode(std::uint32_t bits, FloatFormat f) {
  const int exponent = static_cast<int>(bits >> f.fraction_bits & ((1u << f.exponent_bits) - 1));
  const std::uint32_t fraction = bits & ((1u << f.fraction_bits) - 1);
  const double sign = bits >> (f.exponent_bits + f.fraction_bits) & 1 ? -1 : 1;
  const std::uint32_t magnitude = bits & nan_bits(f);
  if (magnitude > largest_bits(f)) {
    return f.has_infinity && fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                                           : std::numeric_limits<double>::quiet_NaN();
  }
  const double significand = exponent == 0 ? fraction : fraction + (1u << f.fraction_bits);
  return sign * std::ldexp(significand, std::max(exponent, 1) - bias(f) - f.fraction_bits);
}
// The spacing of numbers at x.
inline double ulp(double x, FloatFormat f) {
  const int smallest = 1 - bias(f);
  const int exponent = x == 0 ? smallest : std::max(std::ilogb(x), smallest);
  return std::ldexp(1.0, exponent - f.fraction_bits);
}

enum class Rounding { kToEven, kTiesAway, kTowardsZero, kUp, kDown };
inline double round_steps(double steps, bool negative, Rounding rounding) {
  switch (rounding) {
    case Rounding::kToEven:
      return std::nearbyint(steps);
    case Rounding::kTiesAway:
      return std::round(steps);
    case Rounding::kTowardsZero:
      return std::floor(steps);
    case Rounding::kUp:
      return negative ? std::floor(steps) : std::ceil(steps);
    case Rounding::kDown:
      return negative ? std::ceil(steps) : std::floor(steps);
  }
  return steps;
}
// x as the rounding says. Beyond the largest number: infinity, where there is none NaN, with `saturate` the largest
// one.
inline std::uint32_t encode(double x, FloatFormat f, Rounding rounding = Rounding::kToEven, bool saturate = false) {
  if (std::isnan(x)) return nan_bits(f);
  const bool negative = std::signbit(x);
  const std::uint32_t sign = std::uint32_t{negative} << (f.exponent_bits + f.fraction_bits);
  const std::uint32_t beyond = saturate ? largest_bits(f) : f.has_infinity ? infinity_bits(f) : nan_bits(f);
  if (std::isinf(x)) return sign | beyond;
  const double unit = ulp(x, f);
  const double rounded = round_steps(std::abs(x) / unit, negative, rounding) * unit;
  if (rounded > decode(largest_bits(f), f)) {
    const bool inwards = rounding == Rounding::kTowardsZero || rounding == (negative ? Rounding::kUp : Rounding::kDown);
    return sign | (inwards ? largest_bits(f) : beyond);
  }
  if (rounded == 0) return sign;
  const int smallest = 1 - bias(f), exponent = std::max(std::ilogb(rounded), smallest);
  const auto significand = static_cast<std::uint32_t>(std::ldexp(rounded, f.fraction_bits - exponent));
  const std::uint32_t hidden = 1u << f.fraction_bits;
  if (significand < hidden) return sign | significand;
  return sign | static_cast<std::uint32_t>(exponent + bias(f)) << f.fraction_bits | (significand - hidden);
}

inline bool is_nan(std::uint32_t bits, FloatFormat f) { return std::isnan(decode(bits, f)); }
// The same number, a zero of the same sign, or a NaN for a NaN: its sign and payload are the implementation's.
inline bool same_number(std::uint32_t a, std::uint32_t b, FloatFormat f) {
  return a == b || (is_nan(a, f) && is_nan(b, f));
}
// `got` is what some number within `error` of `exact` rounds to.
inline bool rounded_from(std::uint32_t got, double exact, double error, FloatFormat f) {
  if (exact == 0 || !std::isfinite(exact)) return same_number(got, encode(exact, f), f);
  const double value = decode(got, f);
  return decode(encode(exact - error, f), f) <= value && value <= decode(encode(exact + error, f), f);
}

// a b + c for factors of 24 bits or fewer, so that encode() rounds it right: inexact sums get an odd last bit, which no
// tie of a shorter format has.
inline double fma_to_odd(double a, double b, double c) {
  const double product = a * b, sum = product + c;
  if (!std::isfinite(sum)) return sum;
  const double part = sum - product, lost = (product - (sum - part)) + (c - part);
  std::uint64_t bits;
  std::memcpy(&bits, &sum, sizeof bits);
  return lost == 0 || bits % 2 == 1 ? sum : std::nextafter(sum, lost > 0 ? HUGE_VAL : -HUGE_VAL);
}

}  // namespace simt::selftest
