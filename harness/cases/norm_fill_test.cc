// What the integer fill promises, checked by doing the arithmetic.
#include "harness/cases/norm_fill.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "harness/core/dtype.h"

namespace assay::harness {
namespace {

NormProblem problem(std::int64_t rows, std::int64_t width, std::int64_t group, bool gate, bool residual,
                    std::uint64_t seed) {
  return {.rows = rows,
          .width = width,
          .group = group,
          .gate = gate,
          .residual = residual,
          .fill = "integer",
          .seed = seed,
          .eps = 0.25};
}

// Whether `value` is a whole multiple of 2^-`bits` below 2^24 of them: exact in float32, and so are sums of such
// values.
bool exact_in(double value, int bits) {
  const double units = std::ldexp(value, bits);
  return units == std::nearbyint(units) && std::fabs(units) <= 0x1p24;
}

struct Shape3 {
  std::int64_t rows, width, group;
};
const Shape3 kShapes[] = {{5, 4, 4},   {9, 8, 8},       {7, 64, 64},    {4, 64, 16},     {3, 128, 32},
                          {64, 32, 8}, {3, 1024, 1024}, {2, 4096, 512}, {1, 4096, 4096}, {2, 1024, 128}};

TEST(IntegerFill, EveryValueBeforeARoundingIsExact) {
  for (const Shape3& s : kShapes)
    for (const bool gate : {false, true})
      for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        const NormInputs in = norm_inputs(problem(s.rows, s.width, s.group, gate, false, seed));
        std::vector<double> d_weight(s.width);
        for (std::int64_t base = 0; base < s.rows * s.width; base += s.group) {
          const auto v = [&](std::int64_t i) {
            const double z = gate ? in.gate[base + i] : 1;
            return in.hidden_states[base + i] * (z > 0 ? z : 0);
          };
          const auto u = [&](std::int64_t i) { return in.weight[(base + i) % s.width] * in.d_output[base + i]; };
          double squares = 0, product = 0;
          for (std::int64_t i = 0; i < s.group; ++i) {
            ASSERT_EQ(round_to_bfloat16(in.hidden_states[base + i]), in.hidden_states[base + i]);
            ASSERT_EQ(round_to_bfloat16(in.d_output[base + i]), in.d_output[base + i]);
            ASSERT_TRUE(!gate || in.gate[base + i] == 0 || in.gate[base + i] <= -104 || in.gate[base + i] >= 18);
            squares += v(i) * v(i);
            ASSERT_TRUE(exact_in(squares, 0));
          }
          // mean square + 1/4 = 4^m
          const double inside = squares / static_cast<double>(s.group) + 0.25;
          const int m = std::ilogb(inside) / 2;
          ASSERT_EQ(inside, std::ldexp(1, 2 * m));
          ASSERT_GE(squares, 0x1p12 - s.group / 4.0);  // more than a bfloat16 accumulator can hold
          for (std::int64_t i = 0; i < s.group; ++i) {
            product += u(i) * std::ldexp(v(i), -m);
            ASSERT_TRUE(exact_in(product, m)) << product;
            d_weight[(base + i) % s.width] += in.d_output[base + i] * std::ldexp(v(i), -m);
            ASSERT_TRUE(exact_in(d_weight[(base + i) % s.width], 6));
          }
          const double c = product / static_cast<double>(s.group);
          for (std::int64_t i = 0; i < s.group; ++i) {
            const double vc = std::ldexp(v(i), -m) * c, inner = u(i) - vc;
            ASSERT_EQ(static_cast<float>(vc), vc);
            ASSERT_EQ(static_cast<float>(inner), inner);
          }
        }
      }
}

// The remainder that the last four channels must close may be one that four bounded squares cannot sum to.
TEST(IntegerFill, EverySeedHasItsNumbers) {
  for (const std::int64_t group : {4, 8, 16, 32, 64, 128, 256, 1024})
    for (const bool gate : {false, true})
      for (std::uint64_t seed = 0; seed < 3000; ++seed)
        ASSERT_NO_THROW(norm_inputs(problem(group <= 64 ? 4 : 1, group, group, gate, false, seed)))
            << group << " " << seed;
}

TEST(IntegerFill, ExponentsDifferAndTheDataIsDense) {
  for (const Shape3& s : kShapes) {
    if (s.rows * s.width / s.group < 6 || s.group < 64) continue;
    const NormInputs in = norm_inputs(problem(s.rows, s.width, s.group, false, false, 3));
    std::set<double> sums;
    std::int64_t zeros = 0, odd = 0;
    for (std::int64_t base = 0; base < s.rows * s.width; base += s.group) {
      double squares = 0;
      for (std::int64_t i = 0; i < s.group; ++i) {
        squares += in.hidden_states[base + i] * in.hidden_states[base + i];
        zeros += in.hidden_states[base + i] == 0;
        odd += std::fmod(in.hidden_states[base + i], 2) != 0;
      }
      sums.insert(squares);
    }
    EXPECT_GT(sums.size(), 1u) << s.rows << " " << s.width << " " << s.group;
    EXPECT_LT(zeros, s.rows * s.width / 20);
    EXPECT_GT(odd, s.rows * s.width * 9 / 10);
  }
}

TEST(IntegerFill, TheResidualSumIsExact) {
  const NormInputs in = norm_inputs(problem(7, 64, 64, false, true, 5)),
                   plain = norm_inputs(problem(7, 64, 64, false, false, 5));
  for (std::size_t i = 0; i < in.hidden_states.size(); ++i) {
    EXPECT_EQ(in.hidden_states[i] + in.residual[i], plain.hidden_states[i]);
    EXPECT_EQ(round_to_bfloat16(in.hidden_states[i]), in.hidden_states[i]);
  }
}

TEST(RealFills, AreTheSameOnEveryMachine) {
  const NormInputs in = norm_inputs(
      {.rows = 3, .width = 5, .group = 5, .gate = true, .residual = false, .fill = "model", .seed = 7, .eps = 1e-5});
  // Recorded once: a generator that changes would make every case line mean something else.
  EXPECT_EQ(in.hidden_states[0], -3.7623678052984659);
  EXPECT_EQ(in.gate[14], -0.38348029725578925);
  EXPECT_EQ(in.hidden_states.size(), 15u);
  const NormInputs again = norm_inputs(
      {.rows = 3, .width = 5, .group = 5, .gate = true, .residual = false, .fill = "model", .seed = 7, .eps = 1e-5});
  EXPECT_EQ(in.hidden_states, again.hidden_states);
  const NormInputs other = norm_inputs(
      {.rows = 3, .width = 5, .group = 5, .gate = true, .residual = false, .fill = "model", .seed = 8, .eps = 1e-5});
  EXPECT_NE(in.hidden_states, other.hidden_states);
  EXPECT_NE(in.gate, in.hidden_states);
}

TEST(RealFills, EdgeHoldsEveryKindOfRow) {
  const NormInputs in = norm_inputs(
      {.rows = 200, .width = 8, .group = 8, .gate = true, .residual = false, .fill = "edge", .seed = 1, .eps = 1e-5});
  bool zero = false, denormal = false, large = false;
  for (std::int64_t r = 0; r < 200; ++r) {
    double most = 0;
    for (int c = 0; c < 8; ++c) most = std::max(most, std::fabs(in.hidden_states[r * 8 + c]));
    zero |= most == 0;
    denormal |= most > 0 && most < 0x1p-126;
    large |= most > 0x1p36;
  }
  EXPECT_TRUE(zero && denormal && large);
}

}  // namespace
}  // namespace assay::harness
