#include "reference/stream.h"

#include <gtest/gtest.h>

#include "reference/testing/compare.h"
#include "reference/testing/random.h"

namespace assay::reference {
namespace {

template <class T>
class Stream : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Stream, Scalars);

// Whole packs and parts of one, to aligned places and others; what stands beside them stays.
TYPED_TEST(Stream, WritesWhatItIsGiven) {
  using T = TypeParam;
  testing::Random random(1);
  for (const Index n : {0, 1, 7, 8, 19, 64})
    for (const Index first : {0, 1, 8}) {
      const Tensor<T> from = random.tensor<T>({n});
      Tensor<T> to({first + n + 1}, T(7)), want = to;
      for (Index i = 0; i < n; ++i) want[first + i] = from[i] + from[i];
      stream(to.data() + first, n, [&](auto lanes) { return lanes.load(from.data()) + lanes.load(from.data()); });
      finish_streams();
      EXPECT_TRUE(testing::same_bits(to, want)) << n << " from " << first;
    }
}

TYPED_TEST(Stream, Transposes) {
  using T = TypeParam;
  testing::Random random(2);
  for (const Index rows : {1, 4, 8, 13, 24})
    for (const Index columns : {1, 3, 4, 8, 17, 24})
      for (const Index first : {0, 1}) {  // aligned, or not
        const Index stride = columns + 2;
        const Tensor<T> from = random.tensor<T>({rows, stride});
        Tensor<T> to({first + columns * rows + 1}, T(7)), want = to;
        for (Index j = 0; j < columns; ++j)
          for (Index i = 0; i < rows; ++i) want[first + j * rows + i] = from(i, j);
        stream_transposed(from.data(), stride, rows, columns, to.data() + first);
        finish_streams();
        EXPECT_TRUE(testing::same_bits(to, want)) << rows << " x " << columns << " from " << first;
      }
}

}  // namespace
}  // namespace assay::reference
