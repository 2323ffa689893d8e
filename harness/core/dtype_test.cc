#include "harness/core/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace assay::harness {
namespace {

TEST(DType, NamesRoundTrip) {
  for (const DType d : {DType::float32, DType::bfloat16, DType::float64, DType::float16, DType::int64, DType::int32,
                        DType::uint8, DType::boolean}) {
    EXPECT_EQ(dtype_from_name(name(d)), d);
    EXPECT_EQ(dtype_from_name(short_name(d)), d);
  }
  EXPECT_THROW(dtype_from_name("float8"), std::invalid_argument);
}

TEST(DType, EveryBfloat16RoundTrips) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto stored = static_cast<std::uint16_t>(bits);
    const double value = load(DType::bfloat16, &stored);
    if (std::isnan(value)) continue;
    std::uint16_t back = 0;
    store(DType::bfloat16, &back, value);
    ASSERT_EQ(back, stored);
  }
}

TEST(DType, EveryHalfRoundTrips) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto stored = static_cast<std::uint16_t>(bits);
    const double value = load(DType::float16, &stored);
    if (std::isnan(value)) continue;
    std::uint16_t back = 0;
    store(DType::float16, &back, value);
    ASSERT_EQ(back, stored);
  }
}

TEST(DType, Bfloat16RoundsOnceToNearestEven) {
  EXPECT_EQ(round_to_bfloat16(1 + 0x1p-8), 1);                     // a tie goes to the even neighbour
  EXPECT_EQ(round_to_bfloat16(1 + 3 * 0x1p-8), 1 + 0x1p-6);        // and here that is the upper one
  EXPECT_EQ(round_to_bfloat16(1 + 0x1p-8 + 0x1p-40), 1 + 0x1p-7);  // by way of float32 this would be a tie, and 1
  EXPECT_EQ(round_to_bfloat16(-3.3895313892515355e38), -3.3895313892515355e38);
  EXPECT_EQ(round_to_bfloat16(3.4e38), std::numeric_limits<double>::infinity());
  EXPECT_EQ(round_to_bfloat16(0x1p-134), 0);  // half the smallest denormal: a tie to zero
  EXPECT_EQ(round_to_bfloat16(0x1.8p-134), 0x1p-133);
}

TEST(DType, FloatsRoundAsTheHardwareDoes) {
  std::uint64_t state = 1;
  for (int i = 0; i < 100000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const double value =
        std::bit_cast<double>((state & 0x000FFFFFFFFFFFFF) | (std::uint64_t{0x36A} + state % 600) << 52);
    ASSERT_EQ(round_to(DType::float32, value), static_cast<float>(value)) << value;
  }
}

TEST(DType, UlpIsTheDistanceToTheNextNumber) {
  EXPECT_EQ(ulp(DType::float32, 1), 0x1p-23);
  EXPECT_EQ(ulp(DType::bfloat16, -3), 0x1p-6);
  EXPECT_EQ(ulp(DType::float32, 0), 0x1p-149);
  EXPECT_EQ(ulp(DType::bfloat16, 0x1p-130), 0x1p-133);
  EXPECT_EQ(ulp(DType::float16, 2), 0x1p-9);
}

TEST(DType, IntegersMustBeExact) {
  std::int32_t i = 0;
  store(DType::int32, &i, -7);
  EXPECT_EQ(i, -7);
  EXPECT_THROW(store(DType::int32, &i, 0.5), std::invalid_argument);
}

}  // namespace
}  // namespace assay::harness
