#include "reference/embedding.h"

#include <gtest/gtest.h>

#include <array>

#include "reference/testing/gradient_check.h"

namespace assay::reference {
namespace {

TEST(Embedding, GathersAndScattersRepeatedIds) {
  const Tensor<double> weight({3, 2}, {1, 2, 3, 4, 5, 6});
  const std::array<std::int64_t, 3> ids = {2, 0, 2};
  const auto y = embedding_forward(weight, ids);
  EXPECT_EQ(y(0, 1), 6);
  EXPECT_EQ(y(1, 0), 1);
  const auto d = embedding_backward<double>({}, ids, Tensor<double>({3, 2}, {1, 2, 10, 20, 100, 200}), 3);
  EXPECT_EQ(d(2, 0), 101);
  EXPECT_EQ(d(2, 1), 202);
  EXPECT_EQ(d(0, 1), 20);
  EXPECT_EQ(d(1, 0), 0);
}

TEST(Embedding, Adjoint) {  // linear in the weight: <dy, J w> = <J^T dy, w>
  testing::Random random(1);
  const std::array<std::int64_t, 6> ids = {2, 0, 2, 4, 4, 2};
  const auto weight = random.tensor<double>({5, 3}), d_y = random.tensor<double>({6, 3});
  const auto y = embedding_forward(weight, ids);
  const auto d = embedding_backward<double>({}, ids, d_y, 5);
  EXPECT_NEAR(testing::inner(y, d_y), testing::inner(weight, d), 1e-14);
}

TEST(Embedding, RoundsTheSumOnce) {
  const std::array<std::int64_t, 3> ids = {0, 0, 0};  // 1 + 2^-8 + 2^-8: each addition alone would round back to 1
  const auto d = embedding_backward<float>({.storage = Storage::bfloat16}, ids, Tensor<float>({3, 1}, {1.f, 0x1p-8f, 0x1p-8f}), 1);
  EXPECT_EQ(d[0], 1.f + 0x1p-7f);
}

TEST(Embedding, NamesAnIdOutside) {
  const Tensor<double> weight({3, 2});
  const std::array<std::int64_t, 2> ids = {1, 3};
  try {
    embedding_forward(weight, ids);
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "embedding_forward: ids[1] = 3; want 0 <= id < 3");
  }
}

}  // namespace
}  // namespace assay::reference
