#include "reference/sums.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "reference/testing/random.h"

namespace assay::reference {
namespace {

template <class T>
class Sums : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Sums, Scalars);

TYPED_TEST(Sums, AgreeWithLongDouble) {
  using T = TypeParam;
  testing::Random random(1);
  for (Index n : {0, 1, 3, 7, 8, 9, 15, 16, 31, 32, 33, 97, 1000}) {
    const Tensor<T> a = random.tensor<T>({n}), b = random.tensor<T>({n}), c = random.tensor<T>({n});
    long double sum_a = 0, squares = 0, two = 0, three = 0;
    for (Index i = 0; i < n; ++i) {
      sum_a += a[i];
      squares += static_cast<long double>(a[i]) * a[i];
      two += static_cast<long double>(a[i]) * b[i];
      three += static_cast<long double>(a[i]) * b[i] * c[i];
    }
    // Each addend is at most 1 and goes through at most n / 16 + 6 additions, each off by half an ulp of a sum below n.
    const double limit = static_cast<double>(n) * (static_cast<double>(n) / 16 + 6) * std::numeric_limits<T>::epsilon();
    EXPECT_NEAR(sum(a.data(), n), static_cast<double>(sum_a), limit);
    EXPECT_NEAR(sum_of_squares(a.data(), n), static_cast<double>(squares), limit);
    EXPECT_NEAR(dot(a.data(), b.data(), n), static_cast<double>(two), limit);
    EXPECT_NEAR(dot(a.data(), b.data(), c.data(), n), static_cast<double>(three), limit);
  }
}

TYPED_TEST(Sums, TheSameBitsForAnyAlignmentAndStride) {
  using T = TypeParam;
  testing::Random random(2);
  for (Index n : {1, 5, 16, 30, 33, 77, 128, 1001}) {
    const Tensor<T> a = random.tensor<T>({n}), b = random.tensor<T>({n});
    std::vector<T> moved(n * 3 + 16), other(n * 3 + 16);
    for (Index shift = 0; shift < 8; ++shift) {
      std::copy_n(a.data(), n, moved.data() + shift);
      std::copy_n(b.data(), n, other.data() + 7 - shift);
      EXPECT_EQ(sum(moved.data() + shift, n), sum(a.data(), n));
      EXPECT_EQ(dot(moved.data() + shift, other.data() + 7 - shift, n), dot(a.data(), b.data(), n));
    }
    for (Index i = 0; i < n; ++i) moved[3 * i] = a[i], other[2 * i] = b[i];
    EXPECT_EQ(sum(moved.data(), 3, n), sum(a.data(), n));
    EXPECT_EQ(sum_of_squares(moved.data(), 3, n), sum_of_squares(a.data(), n));
    EXPECT_EQ(dot(moved.data(), 3, other.data(), 2, n), dot(a.data(), b.data(), n));
  }
}

}  // namespace
}  // namespace assay::reference
