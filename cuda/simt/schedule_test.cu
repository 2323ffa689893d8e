#include <gtest/gtest.h>

#include <set>

#include "cuda/simt/simt.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

TEST(Schedules, TwoAreNominalAndTwoHostile) {
  ASSERT_EQ(schedules().size(), 4u);
  int hostile = 0;
  std::set<std::string> names;
  for (const Schedule& schedule : schedules()) {
    hostile += schedule.arithmetic == Arithmetic::kHostile;
    names.insert(schedule.name);
  }
  EXPECT_EQ(hostile, 2);
  EXPECT_EQ(names.size(), 4u);
  EXPECT_THROW(set_schedule(4, 1), std::out_of_range);
}

// Every thread notes when it came by: the one thing that a schedule may change.
__global__ void order_kernel(int* clock, int* when) {
  const int t = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  when[2 * t] = (*clock)++;
  __syncwarp();
  when[2 * t + 1] = (*clock)++;
}

std::vector<int> order(std::size_t schedule, std::uint64_t seed, int workers = 1) {
  set_schedule(schedule, seed);
  set_workers(workers);
  Buffer<int> clock(1);
  clock.upload({0});
  const Buffer<int> when(2 * 2 * 96);
  launch(order_kernel, {.grid = 2, .block = 96}, clock, when);
  set_schedule(0, 1);
  set_workers(0);
  return when.host();
}

TEST(Schedules, RunThreadsInTheirOrder) {
  const auto ascending = order(0, 1), skew = order(1, 1), descending = order(2, 1), random = order(3, 1);
  EXPECT_LT(ascending[0], ascending[2]);       // thread 0 before thread 1
  EXPECT_LT(ascending[2 * 95], ascending[1]);  // all warps arrive before the first goes on
  EXPECT_GT(descending[0], descending[2]);
  EXPECT_GT(descending[0], descending[2 * 96]);  // the last block first
  for (int warp = 0; warp < 6; ++warp) {         // each warp goes on alone
    int first = skew[64 * warp], last = first;
    for (int i = 0; i < 64; ++i) {
      first = std::min(first, skew[64 * warp + i]);
      last = std::max(last, skew[64 * warp + i]);
    }
    EXPECT_EQ(last - first, 63);
  }
  EXPECT_NE(random, ascending);
  EXPECT_NE(random, descending);
}

TEST(Schedules, DependOnTheSeedAlone) {
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(order(i, 5), order(i, 5));
  EXPECT_NE(order(3, 5), order(3, 6));
  EXPECT_NE(order(1, 5), order(1, 6));
  EXPECT_EQ(order(0, 5), order(0, 6));
}

}  // namespace
}  // namespace simt::testing
