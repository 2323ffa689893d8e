#include "reference/panel_product.h"

#include <gtest/gtest.h>

#include "reference/testing/compare.h"
#include "reference/testing/random.h"

namespace assay::reference {
namespace {

template <class T>
class PanelProduct : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PanelProduct, Scalars);

// C = A B, panel by panel.
template <class T>
void multiply(const PackedOperand<T>& a, const PackedOperand<T>& b, Index depth, Tensor<T>& c, Sum sum) {
  for (Index j = 0; j < b.extent(); j += b.step())
    for (Index i = 0; i < a.extent(); i += a.step()) multiply_panels(a, i, b, j, depth, &c(i, j), c.dim(1), sum == Sum::accumulate ? kKeepAll<T> : nullptr);
}

TYPED_TEST(PanelProduct, HasTheBitsOfGemm) {
  using T = TypeParam;
  testing::Random random(1);
  PackedOperand<T> rows = PackedOperand<T>::rows(), columns = PackedOperand<T>::columns();
  for (const Index m : {1, 8, 13, 64})
    for (const Index n : {1, 7, 48, 64, 101})
      for (const Index k : {1, 5, 256, 300}) {  // the objects grow and shrink
        const Tensor<T> a = random.tensor<T>({m, k}), b = random.tensor<T>({k, n}), a_t = random.tensor<T>({k, m}), b_t = random.tensor<T>({n, k});
        Tensor<T> want({m, n}), c({m, n}, T(7));
        gemm(view(a, m), view(b, k), view(want, m));
        rows.pack(m, k, a.data(), k, 1);
        columns.pack(n, k, b.data(), 1, n);
        multiply(rows, columns, k, c, Sum::overwrite);
        ASSERT_TRUE(testing::same_bits(c, want)) << m << " x " << n << " x " << k;

        gemm_tn(view(a_t, k), MatrixView<const T>(b.data(), k, n), view(want, m), Sum::accumulate);
        rows.pack(m, k, a_t.data(), 1, m);
        multiply(rows, columns, k, c, Sum::accumulate);
        ASSERT_TRUE(testing::same_bits(c, want)) << m << " x " << n << " x " << k << ", transposed A, accumulated";

        const Index part = (k + 1) / 2;  // of the depth
        gemm_nt(MatrixView<const T>(a.data(), m, part, k), MatrixView<const T>(b_t.data(), n, part, k), view(want, m));
        rows.pack(m, k, a.data(), k, 1);
        columns.pack(n, k, b_t.data(), k, 1);
        multiply(rows, columns, part, c, Sum::overwrite);
        ASSERT_TRUE(testing::same_bits(c, want)) << m << " x " << n << " x " << part << " of " << k << ", transposed B";
      }
}

TYPED_TEST(PanelProduct, AnEmptySumIsZero) {
  using T = TypeParam;
  PackedOperand<T> rows = PackedOperand<T>::rows(), columns = PackedOperand<T>::columns();
  rows.resize(3, 0);
  columns.resize(5, 0);
  Tensor<T> c({3, 5}, T(7));
  multiply(rows, columns, 0, c, Sum::overwrite);
  for (const T v : c.span()) EXPECT_EQ(v, 0);
}

// Panels as wide as each other: of 64 columns in registers of 16, two and two, not three and one.
TYPED_TEST(PanelProduct, NoPanelIsMuchNarrowerThanTheOthers) {
  using T = TypeParam;
  const GemmKernel<T>& kernel = gemm_kernels<T>().front();
  PackedOperand<T> columns = PackedOperand<T>::columns();
  for (Index n = 1; n <= 3 * kernel.columns; ++n) {
    columns.resize(n, 1);
    Index panels = 0;
    for (Index j = 0; j < n; j += columns.step(), ++panels) {
      EXPECT_LE(columns.width(j), kernel.columns);
      EXPECT_EQ(columns.width(j) % kernel.register_width, 0);
    }
    EXPECT_EQ(panels, (n + kernel.columns - 1) / kernel.columns) << n;
  }
}

}  // namespace
}  // namespace assay::reference
