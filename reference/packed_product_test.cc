#include "reference/packed_product.h"

#include <gtest/gtest.h>

#include "reference/testing/hash.h"
#include "reference/testing/random.h"

namespace assay::reference {
namespace {

template <class T>
class PackedProduct : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PackedProduct, Scalars);

template <class T>
MatrixView<const T> rows_of(const Tensor<T>& t, Index begin, Index end) {
  return {t.data() + begin * t.dim(1), end - begin, t.dim(1)};
}

// Blocks that begin and end within panels, and sums of several blocks of depth, by every kernel of this machine.
TYPED_TEST(PackedProduct, BlocksHaveTheBitsOfGemm) {
  using T = TypeParam;
  testing::Random random(1);
  for (const GemmKernel<T>& kernel : gemm_kernels<T>())
    for (const auto& [m, k, n] :
         {std::array<Index, 3>{1, 1, 1}, {5, 40, 7}, {64, 128, 513}, {201, 3, 150}, {19, 700, 128}})
      for (int round = 0; round < 6; ++round) {
        const Index column = round == 0 ? 0 : random.integer(0, n - 1),
                    end = round == 0 ? n : random.integer(column, n);
        const Index row = round == 0 ? 0 : random.integer(0, k - 1), row_end = round == 0 ? k : random.integer(row, k);
        const Sum sum = round % 2 ? Sum::accumulate : Sum::overwrite;
        const auto same = [&](const auto& packed, const auto& plain, Index columns) {
          Tensor<T> got = random.tensor<T>({m, columns}), want = got;
          packed(view(got, m));
          plain(view(want, m));
          EXPECT_EQ(testing::Hash().add(got).value(), testing::Hash().add(want).value())
              << kernel.name << ": " << m << " x " << k << " x " << n << ", columns [" << column << ", " << end
              << "), rows [" << row << ", " << row_end << ")";
        };
        // Scores: all of the depth, some of the columns, which are rows of what is packed.
        const Tensor<T> q = random.tensor<T>({m, k}), keys = random.tensor<T>({n, k});
        const auto packed_keys = PackedMatrix<T>::of_transpose(view(keys, n), kernel);
        same([&](MatrixView<T> c) { multiply(view(q, m), packed_keys.column_range(column, end), c, sum); },
             [&](MatrixView<T> c) { gemm_nt(view(q, m), rows_of(keys, column, end), c, sum); }, end - column);
        // Weighted values: some of the depth, all of the columns.
        const Index deep = row_end - row;
        const Tensor<T> p = random.tensor<T>({m, deep}), p_t = random.tensor<T>({deep, m}),
                        values = random.tensor<T>({k, n});
        const auto packed_values = PackedMatrix<T>::of(view(values, k), kernel);
        same(
            [&](MatrixView<T> c) {
              multiply(MatrixView<const T>(p.data(), m, deep), packed_values.row_range(row, row_end), c, sum);
            },
            [&](MatrixView<T> c) {
              gemm(MatrixView<const T>(p.data(), m, deep), rows_of(values, row, row_end), c, sum);
            },
            n);
        same(
            [&](MatrixView<T> c) {
              multiply_tn(MatrixView<const T>(p_t.data(), deep, m), packed_values.row_range(row, row_end), c, sum);
            },
            [&](MatrixView<T> c) {
              gemm_tn(MatrixView<const T>(p_t.data(), deep, m), rows_of(values, row, row_end), c, sum);
            },
            n);
      }
}

TEST(PackedProduct, NamesSizesThatDoNotAgree) {
  Tensor<double> a({2, 3}), b({4, 5}), c({2, 5});
  const auto packed = PackedMatrix<double>::of(view(b, 4));
  try {
    multiply(view(a, 2), packed.all(), view(c, 2));
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "multiply: A [2, 3], B [4, 5], C [2, 5]; want sizes that agree");
  }
  EXPECT_THROW(multiply_tn(view(a, 2), packed.row_range(0, 2), view(c, 2)), std::invalid_argument);
}

}  // namespace
}  // namespace assay::reference
