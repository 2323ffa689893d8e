#include "cuda/common/row_plan.h"

#include <gtest/gtest.h>

namespace assay::gpu {
namespace {

TEST(RowPlan, ShortRowsGoToAWarp) {
  for (const auto& [elements, vector] : {std::pair{1, 1}, {256, 1}, {4, 4}, {512, 4}, {512, 8}}) {
    const RowPlan plan = plan_row(elements, vector, 512, Method::automatic);
    EXPECT_EQ(plan.variant, RowVariant::warp_per_row) << elements;
    EXPECT_EQ(plan.vector_width, vector);
    EXPECT_EQ(plan.rows_per_block(), 4);
  }
}

TEST(RowPlan, LongRowsGoToAsManyWarpsAsHoldThem) {
  EXPECT_EQ(plan_row(257, 1, 512, Method::automatic).variant, RowVariant::block_per_row);
  EXPECT_EQ(plan_row(257, 1, 512, Method::automatic).threads, 64);
  EXPECT_EQ(plan_row(513 + 7, 8, 512, Method::automatic).threads, 64);
  EXPECT_EQ(plan_row(2688, 8, 512, Method::automatic).threads, 192);
  EXPECT_EQ(plan_row(4096, 4, 512, Method::automatic).threads, 256);
  EXPECT_EQ(plan_row(8192, 8, 512, Method::automatic).threads, 512);
}

TEST(RowPlan, EveryKeptRowFitsItsThreads) {
  for (const int vector : {1, 4, 8}) {
    for (std::int64_t elements = vector; elements < 20000; elements += vector) {
      const RowPlan plan = plan_row(elements, vector, 384, Method::automatic);
      ASSERT_LE(plan.threads, 384);
      ASSERT_EQ(plan.threads % kWarpSize, 0);
      if (plan.variant == RowVariant::block_rereads_row) continue;
      const int team = plan.variant == RowVariant::warp_per_row ? kWarpSize : plan.threads;
      ASSERT_LE(elements, static_cast<std::int64_t>(team) * kept_elements(vector)) << elements << " by " << vector;
    }
  }
}

TEST(RowPlan, TheLongestRowsAreReadAgain) {
  EXPECT_EQ(plan_row(8192 + 8, 8, 512, Method::automatic).variant, RowVariant::block_rereads_row);
  EXPECT_EQ(plan_row(4097, 1, 512, Method::automatic).variant, RowVariant::block_rereads_row);
  EXPECT_EQ(plan_row(6144 + 8, 8, 384, Method::automatic).variant, RowVariant::block_rereads_row);
}

TEST(RowPlan, NaiveIsNaiveForEveryLength) {
  for (const std::int64_t elements : {1, 300, 100000}) {
    EXPECT_EQ(plan_row(elements, 8, 512, Method::naive).variant, RowVariant::naive);
  }
}

TEST(RowPlan, BlocksCoverTheRowsUpToALimit) {
  const RowPlan warp = plan_row(64, 8, 512, Method::automatic), block = plan_row(4096, 8, 512, Method::automatic);
  EXPECT_EQ(warp.blocks(0), 0);
  EXPECT_EQ(warp.blocks(1), 1);
  EXPECT_EQ(warp.blocks(5), 2);
  EXPECT_EQ(block.blocks(5), 5);
  EXPECT_EQ(block.blocks(std::int64_t{1} << 40), kMaxBlocks);
}

TEST(VectorWidth, NeedsAlignedPointersAndDivisibleSizes) {
  alignas(16) static const char memory[32] = {};
  EXPECT_EQ(vector_width(2, {64, 96}, {memory, nullptr}), 8);
  EXPECT_EQ(vector_width(4, {64, 100}, {memory, memory + 16}), 4);
  EXPECT_EQ(vector_width(2, {64, 100}, {memory}), 1);
  EXPECT_EQ(vector_width(4, {64}, {memory, memory + 8}), 1);
}

TEST(PartialCount, DependsOnTheRowsAlone) {
  EXPECT_EQ(partial_count(0), 0);
  EXPECT_EQ(partial_count(1), 1);
  EXPECT_EQ(partial_count(4), 1);
  EXPECT_EQ(partial_count(5), 2);
  EXPECT_EQ(partial_count(1'000'000), kMaxPartials);
}

}  // namespace
}  // namespace assay::gpu
