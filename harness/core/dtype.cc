#include "harness/core/dtype.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

namespace assay::harness {
namespace {

struct Info {
  DType dtype;
  std::string_view name, short_name;
  std::size_t size;
  int digits;        // significand bits, the hidden one included; 0 for integers
  int min_exponent;  // exponent of the smallest normal number
  int max_exponent;  // exponent of the largest finite number
};
constexpr std::array<Info, 8> kInfo = {{
    {DType::float32, "float32", "f32", 4, 24, -126, 127},
    {DType::bfloat16, "bfloat16", "bf16", 2, 8, -126, 127},
    {DType::float64, "float64", "f64", 8, 53, -1022, 1023},
    {DType::float16, "float16", "f16", 2, 11, -14, 15},
    {DType::int64, "int64", "i64", 8, 0, 0, 0},
    {DType::int32, "int32", "i32", 4, 0, 0, 0},
    {DType::uint8, "uint8", "u8", 1, 0, 0, 0},
    {DType::boolean, "bool", "bool", 1, 0, 0, 0},
}};

const Info& info(DType dtype) { return kInfo[static_cast<std::size_t>(dtype)]; }

template <class T>
T read(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
template <class T>
void write(void* p, T value) {
  std::memcpy(p, &value, sizeof value);
}

double half_to_double(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) return fraction ? std::numeric_limits<double>::quiet_NaN() : sign * HUGE_VAL;
  return exponent == 0 ? sign * std::ldexp(fraction, -24) : sign * std::ldexp(1024 + fraction, exponent - 25);
}

std::uint16_t double_to_half(double value) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  if (std::isnan(value)) return sign | 0x7E00;
  const double magnitude = std::fabs(round_to(DType::float16, value));
  if (std::isinf(magnitude)) return sign | 0x7C00;
  if (magnitude < std::ldexp(1, -14)) return sign | static_cast<std::uint16_t>(std::ldexp(magnitude, 24));
  const int exponent = std::ilogb(magnitude);
  const int fraction = static_cast<int>(std::ldexp(magnitude, 10 - exponent)) - 1024;
  return static_cast<std::uint16_t>(sign | (exponent + 15) << 10 | fraction);
}

template <class T>
T exact_integer(double value) {
  const auto result = static_cast<T>(value);
  if (static_cast<double>(result) != value)
    throw std::invalid_argument("store: " + std::to_string(value) + " is no integer of the dtype");
  return result;
}

}  // namespace

std::string_view name(DType dtype) { return info(dtype).name; }
std::string_view short_name(DType dtype) { return info(dtype).short_name; }
std::size_t size_of(DType dtype) { return info(dtype).size; }
bool is_floating(DType dtype) { return info(dtype).digits > 0; }

DType dtype_from_name(std::string_view text) {
  for (const Info& i : kInfo)
    if (text == i.name || text == i.short_name) return i.dtype;
  std::string known;
  for (const Info& i : kInfo) known += (known.empty() ? "" : ", ") + std::string(i.name);
  throw std::invalid_argument("dtype \"" + std::string(text) + "\" is unknown; want one of " + known);
}

double load(DType dtype, const void* p) {
  switch (dtype) {
    case DType::float32:
      return read<float>(p);
    case DType::bfloat16:
      return std::bit_cast<float>(std::uint32_t{read<std::uint16_t>(p)} << 16);
    case DType::float64:
      return read<double>(p);
    case DType::float16:
      return half_to_double(read<std::uint16_t>(p));
    case DType::int64:
      return static_cast<double>(read<std::int64_t>(p));
    case DType::int32:
      return read<std::int32_t>(p);
    case DType::uint8:
    case DType::boolean:
      return read<std::uint8_t>(p);
  }
  throw std::invalid_argument("load: unknown dtype");
}

void store(DType dtype, void* p, double value) {
  switch (dtype) {
    case DType::float32:
      return write(p, static_cast<float>(value));
    case DType::bfloat16: {
      const float f = static_cast<float>(round_to_bfloat16(value));
      return write(p, static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(f) >> 16));
    }
    case DType::float64:
      return write(p, value);
    case DType::float16:
      return write(p, double_to_half(value));
    case DType::int64:
      return write(p, exact_integer<std::int64_t>(value));
    case DType::int32:
      return write(p, exact_integer<std::int32_t>(value));
    case DType::uint8:
      return write(p, exact_integer<std::uint8_t>(value));
    case DType::boolean:
      return write(p, static_cast<std::uint8_t>(value != 0));
  }
}

double ulp(DType dtype, double value) {
  const Info& i = info(dtype);
  if (!is_floating(dtype)) return 1;
  if (!std::isfinite(value)) return std::numeric_limits<double>::quiet_NaN();
  const int exponent = value == 0 ? i.min_exponent : std::max(std::ilogb(value), i.min_exponent);
  return std::ldexp(1.0, exponent - i.digits + 1);
}

double round_to(DType dtype, double value) {
  const Info& i = info(dtype);
  if (dtype == DType::float64 || !is_floating(dtype) || !std::isfinite(value) || value == 0) return value;
  const double unit = ulp(dtype, value);  // a power of two: the quotient below is exact
  const double rounded = std::nearbyint(value / unit) * unit;
  return std::fabs(rounded) >= std::ldexp(1.0, i.max_exponent + 1) ? std::copysign(HUGE_VAL, value) : rounded;
}

double round_to_bfloat16(double value) { return round_to(DType::bfloat16, value); }

}  // namespace assay::harness
