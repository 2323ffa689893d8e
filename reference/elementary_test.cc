#include "reference/elementary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "reference/elementary_kernel.h"
#include "reference/testing/random.h"

namespace assay::reference {
namespace {

using Wide = long double;  // 64-bit mantissa: the truth for double

// Error of `got` in units of the last place of T at `want`.
template <class T>
double ulps(T got, Wide want) {
  const T nearest = static_cast<T>(want);
  if (got == nearest) return 0;
  const int exponent = std::max(std::ilogb(nearest), std::numeric_limits<T>::min_exponent - 1);
  return static_cast<double>(std::fabs(got - want) / std::ldexp(Wide(1), exponent - std::numeric_limits<T>::digits + 1));
}

template <class T>
double worst_ulps(T (*f)(T), const std::function<Wide(Wide)>& truth, double low, double high) {
  double worst = 0;
  testing::Random random(7);
  for (int i = 0; i < 40000; ++i) {
    const T x = static_cast<T>(random.uniform(low, high));
    worst = std::max(worst, ulps(f(x), truth(x)));
  }
  return worst;
}

template <class T>
class Elementary : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Elementary, Scalars);

TYPED_TEST(Elementary, BasicFunctionsToAnUlpOrTwo) {
  using T = TypeParam;
  EXPECT_LT(worst_ulps<T>(exp<T>, [](Wide x) { return std::exp(x); }, -80, 80), 1);
  EXPECT_LT(worst_ulps<T>(exp<T>, [](Wide x) { return std::exp(x); }, -1, 1), 1);
  EXPECT_LT(worst_ulps<T>(exp<T>, [](Wide x) { return std::exp(x); }, -105, -85), 1);  // float: denormal results
  EXPECT_LT(worst_ulps<T>(expm1<T>, [](Wide x) { return std::expm1(x); }, -1, 1), 2);
  EXPECT_LT(worst_ulps<T>(expm1<T>, [](Wide x) { return std::expm1(x); }, -50, 60), 2);
  EXPECT_LT(worst_ulps<T>(expm1<T>, [](Wide x) { return std::expm1(x); }, -1e-5, 1e-5), 2);
  EXPECT_LT(worst_ulps<T>(log<T>, [](Wide x) { return std::log(x); }, 0.5, 2), 1);
  EXPECT_LT(worst_ulps<T>(log<T>, [](Wide x) { return std::log(x); }, 0, 1e6), 1);
  EXPECT_LT(worst_ulps<T>(log<T>, [](Wide x) { return std::log(x); }, 1e-42, 1e-37), 1);  // float: denormal arguments
  EXPECT_LT(worst_ulps<T>(log1p<T>, [](Wide x) { return std::log1p(x); }, -0.5, 1), 1);
  EXPECT_LT(worst_ulps<T>(log1p<T>, [](Wide x) { return std::log1p(x); }, 0, 1e9), 1);
  EXPECT_LT(worst_ulps<T>(log1p<T>, [](Wide x) { return std::log1p(x); }, -1e-6, 1e-6), 1);
}

// Composed functions: a few roundings more.
TYPED_TEST(Elementary, ComposedFunctionsToAFewUlps) {
  using T = TypeParam;
  const auto sigma = [](Wide x) { return 1 / (1 + std::exp(-x)); };
  EXPECT_LT(worst_ulps<T>([](T x) { return sigmoid(x); }, sigma, -80, 40), 3);
  EXPECT_LT(worst_ulps<T>([](T x) { return silu(x); }, [&](Wide x) { return x * sigma(x); }, -80, 40), 3);
  EXPECT_LT(worst_ulps<T>([](T x) { return softplus(x); }, [](Wide x) { return std::log1p(std::exp(x)); }, -40, 20), 3);
  const auto derivative = [&](Wide x) { return sigma(x) * (1 + x * sigma(-x)); };
  EXPECT_LT(worst_ulps<T>([](T x) { return silu_derivative(x); }, derivative, -1, 40), 3);  // -1.28 is its zero
  EXPECT_LT(worst_ulps<T>([](T x) { return silu_derivative(x); }, derivative, -80, -2), 5);
}

TYPED_TEST(Elementary, SpecialValues) {
  using T = TypeParam;
  using L = std::numeric_limits<T>;
  const T inf = L::infinity(), nan = L::quiet_NaN();
  EXPECT_EQ(exp(T(0)), 1);
  EXPECT_EQ(exp(-inf), 0);
  EXPECT_EQ(exp(inf), inf);
  EXPECT_EQ(exp(T(1000)), inf);
  EXPECT_EQ(exp(T(-1000)), 0);
  EXPECT_EQ(log(T(1)), 0);
  EXPECT_EQ(log(T(0)), -inf);
  EXPECT_EQ(log(inf), inf);
  EXPECT_TRUE(std::isnan(log(T(-1))));
  EXPECT_EQ(log1p(T(-1)), -inf);
  EXPECT_EQ(log1p(inf), inf);
  EXPECT_TRUE(std::isnan(log1p(T(-2))));
  EXPECT_TRUE(std::signbit(log1p(T(-0.0))));
  EXPECT_TRUE(std::signbit(expm1(T(-0.0))));
  EXPECT_EQ(expm1(-inf), -1);
  EXPECT_EQ(expm1(inf), inf);
  EXPECT_EQ(sigmoid(-inf), 0);
  EXPECT_EQ(sigmoid(inf), 1);
  EXPECT_EQ(softplus(T(20.5)), T(20.5));
  EXPECT_EQ(softplus(T(20)), log1p(exp(T(20))));  // the threshold itself takes the logarithm
  EXPECT_EQ(softplus_derivative(T(20.5)), 1);
  EXPECT_EQ(rsqrt(T(0.0625)), 4);
  for (auto f : {exp<T>, log<T>, log1p<T>, expm1<T>}) EXPECT_TRUE(std::isnan(f(nan)));
  EXPECT_TRUE(std::isnan(softplus(nan)) && std::isnan(silu(nan)) && std::isnan(sigmoid(nan)));
}

TEST(Elementary, NaiveSoftplusLosesItsDigitsAsTritonDoes) {
  EXPECT_EQ(softplus_naive(-17.f), 0.f);
  EXPECT_NEAR(softplus_naive(-12.f) / softplus(-12.f), 1, 1.2e-2);
  EXPECT_GT(std::fabs(softplus_naive(-12.f) / softplus(-12.f) - 1), 1e-3);
  EXPECT_NEAR(softplus_naive(-3.f) / softplus(-3.f), 1, 1e-5);
}

TYPED_TEST(Elementary, AnElementHasTheSameBitsWhereverItLies) {
  using T = TypeParam;
  testing::Random random(3);
  std::vector<T> x(100), y(100);
  for (T& v : x) v = static_cast<T>(random.uniform(-9, 9));
  const auto check = [&](auto array, auto scalar) {
    for (std::size_t begin = 0; begin < 9; ++begin)
      for (std::size_t count : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 90}) {
        std::fill(y.begin(), y.end(), T(-77));
        array(std::span<const T>(x).subspan(begin, count), std::span<T>(y).subspan(begin, count));
        for (std::size_t i = 0; i < x.size(); ++i) {
          const T want = i >= begin && i < begin + count ? scalar(x[i]) : T(-77);
          ASSERT_EQ(std::memcmp(&y[i], &want, sizeof(T)), 0) << i << " in [" << begin << ", +" << count << ")";
        }
      }
  };
  check([](auto in, auto out) { exp(in, out); }, [](T v) { return exp(v); });
  check([](auto in, auto out) { sigmoid(in, out); }, [](T v) { return sigmoid(v); });
  check([](auto in, auto out) { silu(in, out); }, [](T v) { return silu(v); });
  check([](auto in, auto out) { silu_derivative(in, out); }, [](T v) { return silu_derivative(v); });
  check([](auto in, auto out) { softplus(in, out); }, [](T v) { return softplus(v); });
  for (T& v : x) v = std::fabs(v);
  check([](auto in, auto out) { log(in, out); }, [](T v) { return log(v); });
  check([](auto in, auto out) { log1p(in, out); }, [](T v) { return log1p(v); });
}

// Every kernel that this machine has, held against the scalar form: any length, and what is special.
TYPED_TEST(Elementary, EveryKernelGivesTheSameBits) {
  using T = TypeParam;
  using L = std::numeric_limits<T>;
  testing::Random random(5);
  std::vector<T> x = {0, T(-0.0), L::infinity(), -L::infinity(), L::quiet_NaN(), L::denorm_min(), L::min(), L::max(), -L::max(), T(-87.5), T(-104.5),
                      T(88.9), T(-708.5), T(-745.5), T(709.9)};
  while (x.size() < 3000) x.push_back(static_cast<T>(random.uniform(-110, 90)));
  const T scale = static_cast<T>(1 + 0x1p-22);
  for (const ElementaryKernel<T>& kernel : elementary_kernels<T>()) {
    const auto check = [&](const char* name, auto array, auto scalar) {
      for (std::size_t count : {0, 1, 7, 15, 16, 17, 2999, 3000}) {
        std::vector<T> y(x.size() + 1, T(-77));
        array(x.data(), y.data(), count, scale);
        for (std::size_t i = 0; i < y.size(); ++i) {
          const T want = i < count ? scalar(x[i]) : T(-77);
          if (std::isnan(want) && std::isnan(y[i])) continue;  // whose sign is the compiler's
          ASSERT_EQ(std::memcmp(&y[i], &want, sizeof(T)), 0) << kernel.name << " " << name << "(" << x[i] << ") = " << y[i] << ", want " << want;
        }
      }
    };
    check("exp", kernel.exp, [&](T v) { return exp(v) * scale; });
    check("silu", kernel.silu, [&](T v) { return silu(v, scale); });
  }
}

TEST(Bfloat16, RoundsToNearestEvenOnce) {
  EXPECT_EQ(round_to_bfloat16(1.f + 0x1p-8f), 1.f);              // a tie goes to even
  EXPECT_EQ(round_to_bfloat16(1.f + 0x3p-8f), 1.f + 0x1p-6f);    // and here even is up
  EXPECT_EQ(round_to_bfloat16(1.f + 0x1.0002p-8f), 1.f + 0x1p-7f);
  EXPECT_EQ(round_to_bfloat16(1. + 0x1p-8), 1.);
  EXPECT_EQ(round_to_bfloat16(1. + 0x1p-8 + 0x1p-45), 1. + 0x1p-7);  // through float this would tie and go to 1
  EXPECT_EQ(round_to_bfloat16(-(1. + 0x1p-8 + 0x1p-45)), -(1. + 0x1p-7));
  EXPECT_EQ(round_to_bfloat16(0x1.ffp127f), std::numeric_limits<float>::infinity());
  EXPECT_EQ(round_to_bfloat16(0x1.feffffp127), 0x1.fep127);
  EXPECT_EQ(round_to_bfloat16(1e300), std::numeric_limits<double>::infinity());
  EXPECT_EQ(round_to_bfloat16(0x1p-133), 0x1p-133);  // the smallest denormal, and half of it
  EXPECT_EQ(round_to_bfloat16(0x1p-134), 0.);
  EXPECT_EQ(round_to_bfloat16(0x1.0001p-134), 0x1p-133);
  EXPECT_TRUE(std::signbit(round_to_bfloat16(-0.)) && std::signbit(round_to_bfloat16(-1e-300)));
  EXPECT_TRUE(std::isnan(round_to_bfloat16(std::nanf("1"))) && std::isnan(round_to_bfloat16(std::nan("1"))));
  EXPECT_EQ(round_to_bfloat16(-std::numeric_limits<float>::infinity()), -std::numeric_limits<float>::infinity());
}

TEST(Bfloat16, NearestOfTheTwoNeighbours) {
  testing::Random random(11);
  for (int i = 0; i < 100000; ++i) {
    const double x = std::ldexp(random.uniform(-2, 2), static_cast<int>(random.integer(-20, 20)));
    const double step = std::ldexp(1., std::ilogb(x) - 7);
    EXPECT_LE(std::fabs(round_to_bfloat16(x) - x), step / 2);
    EXPECT_EQ(std::fmod(round_to_bfloat16(x), step), 0);
    EXPECT_EQ(round_to_bfloat16(static_cast<float>(x)), static_cast<float>(round_to_bfloat16(static_cast<double>(static_cast<float>(x)))));
  }
}

}  // namespace
}  // namespace assay::reference
