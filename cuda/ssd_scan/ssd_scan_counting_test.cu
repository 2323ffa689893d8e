// What the chunked scan moves, and how its work is spread, counted.
#include <gtest/gtest.h>

#include "cuda/simt/counters.h"
#include "cuda/ssd_scan/plan.h"
#include "cuda/ssd_scan/testing.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

template <class T>
simt::Counters count(const ScanProblem<T>& problem) {
  simt::set_counting(true);
  (void)problem.run(Method::automatic);
  simt::set_counting(false);
  EXPECT_TRUE(simt::last_counters().sees_plain_accesses);
  return simt::last_counters();
}

TEST(SsdScanCounting, ReadsAndWritesEverythingOnce) {
  const ScanProblem<bf16> problem{1, 1024, 8, 64, 1, 128};
  const simt::Counters c = count(problem);
  const auto plan = ssd_scan::plan_forward(problem.dims(), sizeof(bf16), true, Method::automatic);
  ASSERT_EQ(plan.chunk, 128);
  const double tokens = 1024, channels = 8 * 64, vectors = 128, state = channels * vectors * 4;
  const double compulsory = tokens * (2 * channels + 2 * vectors) * 2 + tokens * 8 * 4 + state;
  const double chunk_states = 2 * state * static_cast<double>(plan.chunks - 1);
  const auto moved = static_cast<double>(c.global_read.bytes + c.global_write.bytes);
  EXPECT_GE(moved, compulsory + chunk_states);
  EXPECT_LE(moved, 1.15 * (compulsory + chunk_states));

  // Blocks are alike: the heaviest does not keep the others waiting.
  EXPECT_LE(static_cast<double>(c.longest_block_bytes) * static_cast<double>(plan.blocks), 2 * moved);
  EXPECT_LE(static_cast<double>(c.shared_read.units), 1.02 * static_cast<double>(c.shared_read.ideal_units));
  EXPECT_LE(static_cast<double>(c.shared_write.units), 1.02 * static_cast<double>(c.shared_write.ideal_units));
}

TEST(SsdScanCounting, FloatMeetsNoBankTwice) {
  const simt::Counters c = count(ScanProblem<float>{1, 200, 2, 64, 1, 128});
  EXPECT_LE(static_cast<double>(c.shared_read.units), 1.02 * static_cast<double>(c.shared_read.ideal_units));
  EXPECT_LE(static_cast<double>(c.shared_write.units), 1.02 * static_cast<double>(c.shared_write.ideal_units));
}

}  // namespace
}  // namespace assay::gpu
