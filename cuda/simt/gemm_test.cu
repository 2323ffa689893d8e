// The arithmetic of a whole product under every schedule.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "cuda/simt/test_gemm.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

struct Problem {
  int m, n, k;
  std::vector<__nv_bfloat16> a, b;

  Problem(int m_, int n_, int k_) : m(m_), n(n_), k(k_), a(size(m, k)), b(size(n, k)) {
    std::mt19937 random(static_cast<unsigned>(m * 31 + n * 7 + k));
    std::normal_distribution<float> normal;
    for (auto& x : a) x = __float2bfloat16(normal(random));
    for (auto& x : b) x = __float2bfloat16(normal(random));
  }
  static std::size_t size(int rows, int columns) {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
  }
};

// The largest |error| / limit over all elements. The limit is that of an accumulator that is truncated to 24 bits after
// every 8 products: an update errs by at most one unit, 2^-23 of the partial sum, whose size is taken as the final sum
// and the spread of the terms together.
double worst(const Problem& p, const std::vector<float>& c) {
  double result = 0;
  for (int i = 0; i < p.m; ++i) {
    for (int j = 0; j < p.n; ++j) {
      double sum = 0, squares = 0;
      for (int l = 0; l < p.k; ++l) {
        const double term = static_cast<double>(__bfloat162float(p.a[static_cast<std::size_t>(i) * p.k + l])) *
                            __bfloat162float(p.b[static_cast<std::size_t>(j) * p.k + l]);
        sum += term;
        squares += term * term;
      }
      const double updates = std::ceil(p.k / 8.0);
      const double limit = 0x1p-23 * updates * (std::abs(sum) + std::sqrt(squares));
      result = std::max(result, std::abs(c[static_cast<std::size_t>(i) * p.n + j] - sum) / limit);
    }
  }
  return result;
}

template <class Accumulate>
std::vector<float> run(const Problem& p) {
  const Buffer<__nv_bfloat16> a(p.a), b(p.b);
  const Buffer<float> c(Problem::size(p.m, p.n));
  gemm<Accumulate>(a, b, c, p.m, p.n, p.k);
  return c.host();
}

TEST(Gemm, StaysWithinTheTruncatingLimitAndAgreesWithinAnArithmetic) {
  for (const Problem& p : {Problem(100, 72, 88), Problem(1, 1, 8), Problem(64, 64, 32), Problem(65, 129, 328),
                           Problem(33, 70, 2048), Problem(20, 40, 8192)}) {
    std::vector<float> of_arithmetic[2];
    for_each_schedule([&] {
      const auto c = run<float>(p);
      EXPECT_LE(worst(p, c), 1.0) << p.m << " " << p.n << " " << p.k << " " << current_schedule().name;
      auto& first = of_arithmetic[current_schedule().arithmetic == Arithmetic::kHostile];
      if (first.empty()) first = c;
      EXPECT_EQ(first, c) << current_schedule().name;
    });
    if (p.k >= 328) {
      EXPECT_NE(of_arithmetic[0], of_arithmetic[1]);
    }
  }
}

TEST(Gemm, ABfloat16AccumulatorFailsOnEverySchedule) {
  for (const int k : {256, 8192}) {
    const Problem p(20, 40, k);
    for_each_schedule([&] { EXPECT_GT(worst(p, run<__nv_bfloat16>(p)), 4.0) << current_schedule().name; });
  }
}

}  // namespace
}  // namespace simt::testing
