#include "harness/core/case.h"

#include <gtest/gtest.h>

#include <cmath>

#include "harness/core/random.h"

namespace assay::harness {
namespace {

const char* const kLine =
    "rms_norm/backward rows=7 width=96 residual=same layout=compact eps=1e-05 dtype=bf16 fill=model seed=7";

TEST(Case, LineRoundTrips) {
  const Case c = parse_case(kLine);
  EXPECT_EQ(c.operation(), "rms_norm.backward");
  EXPECT_EQ(c.size("width"), 96);
  EXPECT_EQ(c.option("residual"), "same");
  EXPECT_EQ(c.dtype, DType::bfloat16);
  EXPECT_EQ(to_line(c), kLine);
  EXPECT_EQ(parse_case(to_line(c)), c);
  EXPECT_THROW(c.size("depth"), std::out_of_range);
  EXPECT_THROW(c.option("gate"), std::out_of_range);
}

TEST(Case, BadLinesNameTheWord) {
  const auto message = [](const char* line) -> std::string {
    try {
      parse_case(line);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message("").find("family/path"), std::string::npos);
  EXPECT_NE(message("rms_norm").find("\"rms_norm\""), std::string::npos);
  EXPECT_NE(message("rms_norm/forward rows").find("\"rows\""), std::string::npos);
  EXPECT_NE(message("rms_norm/forward rows=-1").find("0 or more"), std::string::npos);
  EXPECT_NE(message("rms_norm/forward rows=1 rows=2").find("once"), std::string::npos);
  EXPECT_NE(message("rms_norm/forward dtype=f17").find("f17"), std::string::npos);
  EXPECT_NE(message("rms_norm/forward fill=random").find("integer, model"), std::string::npos);
  EXPECT_NE(message("rms_norm/forward seed=x").find("seed"), std::string::npos);
}

TEST(Case, FiltersMatchWordsAndGlobs) {
  const Case c = parse_case(kLine);
  for (const char* yes : {"", "rms_norm", "rms_norm/backward", "rms_norm.backward", "width=96 dtype=bf16",
                          "rms_norm rows=7", "rms*width=96*", "*backward", "*r*w*a*d*", "**", kLine})
    EXPECT_TRUE(matches(c, yes)) << yes;
  for (const char* no : {"rms", "norm", "rms_norm/forward", "width=9", "width=96 dtype=f32", "gated*", "*forward*", "rms*width=97*", "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"})
    EXPECT_FALSE(matches(c, no)) << no;
}

TEST(Random, IsThePublishedPhilox) {
  // Known answers of the authors' own tests (Random123, kat_vectors: philox4x32 10).
  using W = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (W{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (W{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (W{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, NormalHasMeanZeroAndVarianceOne) {
  const Random r(3, "x");
  double sum = 0, squares = 0;
  constexpr int n = 100000;
  for (int i = 0; i < n; ++i) sum += r.normal(i), squares += r.normal(i) * r.normal(i);
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2.0 / n));
  EXPECT_NE(Random(3, "y").normal(0), r.normal(0));
  EXPECT_NE(Random(4, "x").normal(0), r.normal(0));
}

}  // namespace
}  // namespace assay::harness
