#include "harness/io/element_text.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace assay::harness {
namespace {

// Through the JSON reader, as a file would bring it.
struct Single final : JsonVisitor {
  DType dtype = DType::float32;
  std::array<std::byte, 8> bytes{};
  void begin(const JsonPath&, bool) override {}
  void end(const JsonPath&) override {}
  void value(const JsonPath&, const JsonScalar& s) override { parse_element(dtype, s, bytes.data()); }
};
Single read(DType dtype, const std::string& text) {
  Single single;
  single.dtype = dtype;
  visit_json('[' + text + ']', single);
  return single;
}
double value(DType dtype, const std::string& text) { return load(dtype, read(dtype, text).bytes.data()); }
std::string error_of(DType dtype, const std::string& text) {
  try {
    read(dtype, text);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}
template <class T>
std::string written(DType dtype, T element) {
  std::string text;
  append_element(text, dtype, reinterpret_cast<const std::byte*>(&element));
  return text;
}

TEST(ElementText, RoundsADecimalOnceToFloat32) {
  EXPECT_EQ(value(DType::float32, "0.1"), 0.1f);
  // Just above the midpoint of 1 and 1 + 2^-23, but equal to it as a double: rounded twice it would become 1.
  EXPECT_EQ(value(DType::float32, "1.00000005960464477540"), 1 + std::ldexp(1, -23));
  EXPECT_EQ(value(DType::float32, "16777217"), 16777216);
  EXPECT_EQ(value(DType::float32, "1e-60"), 0);
  EXPECT_EQ(value(DType::float32, "1e-45"), std::ldexp(1, -149));
  EXPECT_TRUE(std::signbit(value(DType::float32, "-0.0")));
  EXPECT_EQ(value(DType::float32, "\"-inf\""), -HUGE_VAL);
  EXPECT_EQ(value(DType::float64, "0.1"), 0.1);
}

TEST(ElementText, RefusesWhatTheDtypeCannotHold) {
  EXPECT_EQ(error_of(DType::float32, "1e39"), "1e39 overflows float32; want a finite number");
  EXPECT_EQ(error_of(DType::float32, "-3.4028236e38"), "-3.4028236e38 overflows float32; want a finite number");
  EXPECT_EQ(error_of(DType::bfloat16, "0.1"),
            "0.1 is no bfloat16, the nearest is 0.10009765625; want a value of the dtype, rounded by the writer");
  EXPECT_NE(error_of(DType::bfloat16, "257").find("257 is no bfloat16"), std::string::npos);
  EXPECT_NE(error_of(DType::float16, "65520").find("65520 is no float16"), std::string::npos);
  EXPECT_EQ(value(DType::bfloat16, "-0.18554688"), -0.185546875);  // the float32 it equals, shortest
  EXPECT_EQ(value(DType::float16, "0.000061035156"), std::ldexp(1, -14));
  EXPECT_EQ(error_of(DType::float32, "\"nan\""), "NaN; want a number: NaN is no expected value");
  EXPECT_EQ(error_of(DType::float32, "\"NaN\""), "\"NaN\"; want a number, \"inf\" or \"-inf\"");
  EXPECT_EQ(error_of(DType::float32, "\"Infinity\""), "\"Infinity\"; want a number, \"inf\" or \"-inf\"");
  EXPECT_NE(error_of(DType::float32, "null"), "no error");
  EXPECT_NE(error_of(DType::float32, "true"), "no error");
}

TEST(ElementText, KeepsIntegersExact) {
  std::int64_t big;
  std::memcpy(&big, read(DType::int64, "-9223372036854775807").bytes.data(), sizeof big);
  EXPECT_EQ(big, -9223372036854775807);
  EXPECT_EQ(error_of(DType::int64, "9223372036854775807"), "no error");
  EXPECT_NE(error_of(DType::int64, "9223372036854775808").find("is no int64"), std::string::npos);
  EXPECT_NE(error_of(DType::int64, "1.0").find("1.0 is no int64"), std::string::npos);
  EXPECT_EQ(error_of(DType::int32, "2147483648"),
            "2147483648 is no int32; want an integer from -2147483648 to 2147483647");
  EXPECT_NE(error_of(DType::uint8, "256").find("256 is no uint8"), std::string::npos);
  EXPECT_NE(error_of(DType::uint8, "-1").find("-1 is no uint8"), std::string::npos);
  EXPECT_NE(error_of(DType::int32, "\"inf\""), "no error");
  EXPECT_EQ(value(DType::boolean, "true"), 1);
  EXPECT_EQ(value(DType::boolean, "0"), 0);
  EXPECT_EQ(error_of(DType::boolean, "2"), "2 is no bool; want 0, 1, true or false");
}

TEST(ElementText, WritesTheShortestDecimal) {
  EXPECT_EQ(written(DType::float32, 0.1f), "0.1");
  EXPECT_EQ(written(DType::float32, -10.0f), "-10.0");
  EXPECT_EQ(written(DType::float32, 1e-4f), "0.0001");
  EXPECT_EQ(written(DType::float32, 6.151199e-05f), "6.151199e-05");
  EXPECT_EQ(written(DType::float32, -0.0f), "-0.0");
  EXPECT_EQ(written(DType::float64, 0.1), "0.1");
  EXPECT_EQ(written(DType::bfloat16, std::uint16_t{0xBE3E}), "-0.18554688");
  EXPECT_EQ(written(DType::float32, HUGE_VALF), "\"inf\"");
  EXPECT_EQ(written(DType::int64, std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
  EXPECT_THROW(written(DType::float32, std::nanf("")), std::invalid_argument);
  EXPECT_EQ(shortest(std::nan("")), "nan");
  EXPECT_EQ(shortest(-HUGE_VAL), "-inf");
}

// Every finite value of the 16-bit types, and random bit patterns of the wider ones, come back bit by bit.
template <class Bits>
void expect_round_trip(DType dtype, Bits bits) {
  if (!std::isfinite(load(dtype, &bits))) return;
  Bits back{};
  std::memcpy(&back, read(dtype, written(dtype, bits)).bytes.data(), sizeof back);
  ASSERT_EQ(back, bits) << written(dtype, bits);
}
TEST(ElementText, RoundTripsEveryDtype) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    expect_round_trip(DType::bfloat16, static_cast<std::uint16_t>(bits));
    expect_round_trip(DType::float16, static_cast<std::uint16_t>(bits));
  }
  std::mt19937_64 random(1);
  for (int i = 0; i < 100'000; ++i) {
    expect_round_trip(DType::float32, static_cast<std::uint32_t>(random()));
    expect_round_trip(DType::float64, random());
    expect_round_trip(DType::int64, random());
  }
}

}  // namespace
}  // namespace assay::harness
