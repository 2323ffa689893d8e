// What CUDA's headers lack on the host, against double.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "cuda/simt/simt.cuh"

namespace simt::testing {
namespace {

template <class H>
double value(H x) {
  return static_cast<double>(static_cast<float>(x));
}
template <class H>
H from_bits(unsigned bits) {
  const auto short_bits = static_cast<unsigned short>(bits);
  H x;
  memcpy(static_cast<void*>(&x), &short_bits, 2);
  return x;
}

// No value of the type is nearer to `exact`.
template <class H>
void expect_nearest(H result, double exact) {
  unsigned short bits;
  memcpy(&bits, static_cast<const void*>(&result), 2);
  if (std::isnan(exact)) {
    EXPECT_TRUE(std::isnan(value(result)));
    return;
  }
  const double error = std::abs(value(result) - exact);
  if (!std::isfinite(value(result))) return;  // overflow has its own rule
  EXPECT_LE(error, std::abs(value(from_bits<H>(bits + 1u)) - exact));
  if ((bits & 0x7FFFu) != 0) {
    EXPECT_LE(error, std::abs(value(from_bits<H>(bits - 1u)) - exact));
  }
}

template <class H, class H2>
void check_functions() {
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    const H a = from_bits<H>(random() & 0xFFFFu), b = from_bits<H>(random() & 0xFFFFu),
            c = from_bits<H>(random() & 0xFFFFu);
    if (!std::isfinite(value(a)) || !std::isfinite(value(b)) || !std::isfinite(value(c))) continue;
    expect_nearest(__hfma(a, b, c), std::fma(value(a), value(b), value(c)));
    expect_nearest(hexp(a), std::exp(value(a)));
    expect_nearest(hrsqrt(__habs(a)), 1 / std::sqrt(value(__habs(a))));
    H2 pair;
    pair.x = a, pair.y = b;
    EXPECT_TRUE(std::isnan(value(h2log(pair).y)) || value(h2log(pair).y) == value(hlog(b)));
    EXPECT_TRUE(value(__hfma2(pair, pair, pair).y) == value(__hfma(b, b, b)) || std::isnan(value(__hfma(b, b, b))));
  }
}

TEST(Convert, HalfAndBfloat16FunctionsRoundOnce) {
  check_functions<__nv_bfloat16, __nv_bfloat162>();
  check_functions<__half, __half2>();
}

TEST(Convert, Tf32RoundsToNearestTiesAway) {
  const auto tf32 = [](float x) { return __builtin_bit_cast(float, to_tf32(x)); };
  EXPECT_EQ(tf32(1.0f), 1.0f);
  EXPECT_EQ(tf32(1.0f + 0x1p-11f), 1.0f + 0x1p-10f);  // a tie goes away from zero
  EXPECT_EQ(tf32(-1.0f - 0x1p-11f), -1.0f - 0x1p-10f);
  EXPECT_EQ(tf32(1.0f + 0x1p-11f - 0x1p-23f), 1.0f);
  EXPECT_EQ(tf32(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(tf32(NAN)));
}

}  // namespace
}  // namespace simt::testing
