// Small floating-point formats by arithmetic on their fields: the scalar model of CUDA's conversions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
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

enum class Ties { kToEven, kAwayFromZero };
// The nearest number; beyond the largest one infinity, or with `saturate` the largest one.
inline std::uint32_t encode(double x, FloatFormat f, Ties ties = Ties::kToEven, bool saturate = false) {
  if (std::isnan(x)) return nan_bits(f);
  const std::uint32_t sign = std::uint32_t{std::signbit(x)} << (f.exponent_bits + f.fraction_bits);
  const std::uint32_t beyond = saturate || !f.has_infinity ? largest_bits(f) : infinity_bits(f);
  if (std::isinf(x)) return sign | beyond;
  const double unit = ulp(x, f), steps = std::abs(x) / unit;
  const double rounded = (ties == Ties::kToEven ? std::nearbyint(steps) : std::round(steps)) * unit;
  if (rounded > decode(largest_bits(f), f)) return sign | beyond;
  if (rounded == 0) return sign;
  const int smallest = 1 - bias(f), exponent = std::max(std::ilogb(rounded), smallest);
  const auto significand = static_cast<std::uint32_t>(std::ldexp(rounded, f.fraction_bits - exponent));
  const std::uint32_t hidden = 1u << f.fraction_bits;
  if (significand < hidden) return sign | significand;
  return sign | static_cast<std::uint32_t>(exponent + bias(f)) << f.fraction_bits | (significand - hidden);
}

}  // namespace simt::selftest
