#include "reference/gemm.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "reference/gemm_kernel.h"
#include "reference/parallel.h"
#include "reference/testing/hash.h"
#include "reference/testing/random.h"

namespace assay::reference {
namespace {

constexpr std::array<Index, 3> kSizes[] = {{1, 1, 1}, {3, 5, 7}, {1, 300, 40}, {97, 1, 300}, {130, 97, 257}, {200, 260, 1}, {49, 48, 600}, {1100, 70, 40}, {40, 2100, 33}, {20, 50, 3000}};

template <class T>
class Gemm : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Gemm, Scalars);

// Small integers: exact whatever the order, so any slip of an index shows.
TYPED_TEST(Gemm, ExactOnIntegers) {
  using T = TypeParam;
  testing::Random random(1);
  for (auto [m, n, k] : kSizes) {
    Tensor<T> a({m, k}), b({k, n}), a_t({k, m}), b_t({n, k}), want({m, n}, T(3));
    for (Index i = 0; i < m; ++i)
      for (Index l = 0; l < k; ++l) a(i, l) = a_t(l, i) = static_cast<T>(random.integer(-9, 9));
    for (Index l = 0; l < k; ++l)
      for (Index j = 0; j < n; ++j) b(l, j) = b_t(j, l) = static_cast<T>(random.integer(-9, 9));
    for (Index i = 0; i < m; ++i)
      for (Index l = 0; l < k; ++l)
        for (Index j = 0; j < n; ++j) want(i, j) += a(i, l) * b(l, j);
    Tensor<T> nn({m, n}, T(3)), nt = nn, tn = nn;
    gemm(view(a, m), view(b, k), view(nn, m), Sum::accumulate);
    gemm_nt(view(a, m), view(b_t, n), view(nt, m), Sum::accumulate);
    gemm_tn(view(a_t, k), view(b, k), view(tn, m), Sum::accumulate);
    for (Index i = 0; i < m * n; ++i) {
      ASSERT_EQ(nn[i], want[i]);
      ASSERT_EQ(nt[i], want[i]);
      ASSERT_EQ(tn[i], want[i]);
    }
    gemm(view(a, m), view(b, k), view(nn, m));
    for (Index i = 0; i < m * n; ++i) ASSERT_EQ(nn[i], want[i] - 3);
  }
}

TYPED_TEST(Gemm, TheSameBitsForAnyThreadsAlignmentAndStride) {
  using T = TypeParam;
  testing::Random random(2);
  for (auto [m, n, k] : kSizes) {
    const Tensor<T> a = random.tensor<T>({m, k}), b = random.tensor<T>({k, n});
    Tensor<T> c({m, n});
    set_threads(1);
    gemm(view(a, m), view(b, k), view(c, m));
    const auto want = testing::Hash().add(c).value();
    for (int threads : {2, 3}) {
      set_threads(threads);
      gemm(view(a, m), view(b, k), view(c, m));
      EXPECT_EQ(testing::Hash().add(c).value(), want) << threads << " threads";
    }
    for (Index shift = 0; shift < 8; ++shift) {
      const Index stride_a = k + shift, stride_b = n + 3, stride_c = n + shift % 3;
      std::vector<T> a2(m * stride_a + 8), b2(k * stride_b + 8), c2(m * stride_c + 8);
      for (Index i = 0; i < m; ++i) std::copy_n(&a(i, 0), k, &a2[shift + i * stride_a]);
      for (Index i = 0; i < k; ++i) std::copy_n(&b(i, 0), n, &b2[7 - shift + i * stride_b]);
      gemm(MatrixView<const T>(&a2[shift], m, k, stride_a), MatrixView<const T>(&b2[7 - shift], k, n, stride_b),
           MatrixView<T>(&c2[shift], m, n, stride_c));
      testing::Hash hash;
      for (Index i = 0; i < m; ++i) hash.add(&c2[shift + i * stride_c], n);
      EXPECT_EQ(hash.value(), want) << "alignment " << shift << " of " << m << " x " << n << " x " << k;
    }
  }
  set_threads(0);
}

// The contract to the bit: fma in ascending k within a block, blocks added up in order.
TYPED_TEST(Gemm, EveryElementIsOneChainOfFma) {
  using T = TypeParam;
  testing::Random random(3);
  const Index m = 21, n = 101, k = 2 * kDepthBlock + 37;
  const Tensor<T> a = random.tensor<T>({m, k}), b = random.tensor<T>({k, n});
  Tensor<T> c({m, n});
  gemm(view(a, m), view(b, k), view(c, m));
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      T total = 0;
      for (Index begin = 0; begin < k; begin += kDepthBlock) {
        T block = 0;
        for (Index l = begin; l < std::min(begin + kDepthBlock, k); ++l) block = std::fma(a(i, l), b(l, j), block);
        total += block;
      }
      ASSERT_EQ(c(i, j), total) << i << ", " << j;
    }
}

// Every kernel that this machine has, on whole and partial tiles, from either order of the operands.
TYPED_TEST(Gemm, EveryKernelGivesTheSameBits) {
  using T = TypeParam;
  testing::Random random(4);
  for (const GemmKernel<T>& kernel : gemm_kernels<T>())
    for (Index m : {Index{1}, kernel.rows})
      for (Index n : {Index{1}, kernel.register_width, kernel.register_width + 1, kernel.columns - 3, kernel.columns}) {
        const Index k = 53, width = (n + kernel.register_width - 1) / kernel.register_width * kernel.register_width;
        const Tensor<T> a = random.tensor<T>({m, k}), b = random.tensor<T>({k, n});
        Tensor<T> a_t({k, m}), b_t({n, k}), c({m, n + 2}, T(5)), packed_a({k, kernel.rows}, T(7)), packed_b({k, width}, T(7));
        for (Index l = 0; l < k; ++l) {
          for (Index i = 0; i < m; ++i) a_t(l, i) = a(i, l);
          for (Index j = 0; j < n; ++j) b_t(j, l) = b(l, j);
        }
        for (bool is_transposed : {false, true}) {
          kernel.pack(is_transposed ? a_t.data() : a.data(), is_transposed ? 1 : k, is_transposed ? m : 1, m, k, kernel.rows, packed_a.data());
          kernel.pack(is_transposed ? b_t.data() : b.data(), is_transposed ? k : 1, is_transposed ? 1 : n, n, k, width, packed_b.data());
          const T half_of_odd_rows[] = {1, 0.5, 1, 0.5, 1, 0.5, 1, 0.5};
          for (const T* keep : {static_cast<const T*>(nullptr), kKeepAll<T>, half_of_odd_rows}) {
            Tensor<T> before = c;
            kernel.tile(k, packed_a.data(), packed_b.data(), width, c.data(), n + 2, m, n, keep);
            for (Index i = 0; i < m; ++i) {
              for (Index j = 0; j < n; ++j) {
                T sum = 0;
                for (Index l = 0; l < k; ++l) sum = std::fma(a(i, l), b(l, j), sum);
                ASSERT_EQ(c(i, j), keep ? keep[i] * before(i, j) + sum : sum) << kernel.name << ": " << i << ", " << j << " of " << m << " x " << n;
              }
              ASSERT_EQ(c(i, n), T(5)) << kernel.name << " wrote beyond the tile";
            }
          }
        }
      }
}

TEST(Gemm, NamesSizesThatDoNotAgree) {
  Tensor<double> a({2, 3}), b({4, 5}), c({2, 5});
  try {
    gemm(view(a, 2), view(b, 4), view(c, 2));
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "gemm: A [2, 3], B [4, 5], C [2, 5]; want sizes that agree");
  }
}

TEST(Gemm, EmptySums) {
  Tensor<double> a({2, 0}), b({0, 5}), c({2, 5}, 7.);
  gemm(MatrixView<const double>(a.data(), 2, 0), MatrixView<const double>(b.data(), 0, 5), view(c, 2));
  for (double v : c.span()) EXPECT_EQ(v, 0);
}

}  // namespace
}  // namespace assay::reference
