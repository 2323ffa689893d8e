#include "harness/io/element_text.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace assay::harness {
namespace {

using Kind = JsonScalar::Kind;

[[noreturn]] void refuse(const std::string& found, const std::string& wanted) {
  throw std::invalid_argument(found + "; want " + wanted);
}

std::string text_of(const JsonScalar& s) {
  switch (s.kind) {
    case Kind::null:
      return "null";
    case Kind::boolean:
      return s.integer ? "true" : "false";
    case Kind::integer:
      return std::to_string(s.integer);
    case Kind::natural:
      return std::to_string(s.natural);
    case Kind::real:
      return std::string(s.text.substr(0, 80));
    case Kind::string:
      return quoted(s.text);
  }
  return {};
}

// The nearest T: straight from the decimal, so that it is rounded once.
template <class T>
T nearest(const JsonScalar& s) {
  if (s.kind == Kind::integer) return static_cast<T>(s.integer);
  if (s.kind == Kind::natural) return static_cast<T>(s.natural);
  T value{};
  const auto [end, error] = std::from_chars(s.text.data(), s.text.data() + s.text.size(), value);
  if (error == std::errc::result_out_of_range) return static_cast<T>(s.real);  // to zero or to infinity
  return value;
}

template <class T>
T parse_real(DType dtype, const JsonScalar& s) {
  if (s.kind == Kind::string) {
    if (s.text == "inf") return std::numeric_limits<T>::infinity();
    if (s.text == "-inf") return -std::numeric_limits<T>::infinity();
    if (s.text == "nan") refuse("NaN", "a number: NaN is no expected value");
  }
  if (s.kind == Kind::string || s.kind == Kind::null || s.kind == Kind::boolean) {
    refuse(text_of(s), "a number, \"inf\" or \"-inf\"");
  }
  const T value = nearest<T>(s);
  if (!std::isfinite(value)) refuse(text_of(s) + " overflows " + std::string(name(dtype)), "a finite number");
  return value;
}

template <class T>
T parse_integer(DType dtype, const JsonScalar& s) {
  if (s.kind != Kind::integer || s.integer < std::int64_t{std::numeric_limits<T>::min()} ||
      s.integer > std::int64_t{std::numeric_limits<T>::max()}) {
    refuse(text_of(s) + " is no " + std::string(name(dtype)),
           "an integer from " + std::to_string(std::numeric_limits<T>::min()) + " to " +
               std::to_string(std::numeric_limits<T>::max()));
  }
  return static_cast<T>(s.integer);
}

template <class T>
void put(std::byte* p, T value) {
  std::memcpy(p, &value, sizeof value);
}

template <class T>
void append_shortest(std::string& text, T value) {
  if (std::isinf(value)) {
    text += value > 0 ? "\"inf\"" : "\"-inf\"";
    return;
  }
  // Plain digits for exponents -4 .. 15, scientific otherwise: what most writers of JSON do.
  char buffer[400];
  const T magnitude = std::fabs(value);
  const bool fixed = value == 0 || (magnitude >= static_cast<T>(1e-4) && magnitude < static_cast<T>(1e16));
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value,
                                          fixed ? std::chars_format::fixed : std::chars_format::scientific);
  const std::string_view digits(buffer, static_cast<std::size_t>(end - buffer));
  text += digits;
  if (fixed && digits.find('.') == std::string_view::npos) text += ".0";
}

template <class T>
T get(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

template <class T>
void append_integer(std::string& text, T value) {
  char buffer[24];
  text.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

}  // namespace

void parse_element(DType dtype, const JsonScalar& s, std::byte* p) {
  switch (dtype) {
    case DType::float32:
      return put(p, parse_real<float>(dtype, s));
    case DType::float64:
      return put(p, parse_real<double>(dtype, s));
    case DType::bfloat16:
    case DType::float16: {
      const double value = parse_real<float>(dtype, s);
      if (round_to(dtype, value) != value) {
        refuse(
            text_of(s) + " is no " + std::string(name(dtype)) + ", the nearest is " + shortest(round_to(dtype, value)),
            "a value of the dtype, rounded by the writer");
      }
      return store(dtype, p, value);
    }
    case DType::int64:
      return put(p, parse_integer<std::int64_t>(dtype, s));
    case DType::int32:
      return put(p, parse_integer<std::int32_t>(dtype, s));
    case DType::uint8:
      return put(p, parse_integer<std::uint8_t>(dtype, s));
    case DType::boolean:
      if ((s.kind == Kind::boolean || s.kind == Kind::integer) && (s.integer == 0 || s.integer == 1)) {
        return put(p, static_cast<std::uint8_t>(s.integer));
      }
      refuse(text_of(s) + " is no bool", "0, 1, true or false");
  }
}

void append_element(std::string& text, DType dtype, const std::byte* p) {
  if (is_floating(dtype) && std::isnan(load(dtype, p))) throw std::invalid_argument("NaN; want a number");
  switch (dtype) {
    case DType::float64:
      return append_shortest(text, get<double>(p));
    case DType::float32:
    case DType::bfloat16:
    case DType::float16:
      return append_shortest(text, static_cast<float>(load(dtype, p)));
    case DType::int64:
      return append_integer(text, get<std::int64_t>(p));
    case DType::int32:
      return append_integer(text, get<std::int32_t>(p));
    case DType::uint8:
    case DType::boolean:
      return append_integer(text, unsigned{get<std::uint8_t>(p)});
  }
}

std::string shortest(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string text;
  append_shortest(text, value);
  return text;
}

}  // namespace assay::harness
