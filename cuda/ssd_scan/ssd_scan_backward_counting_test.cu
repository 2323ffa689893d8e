// What the chunked backward moves, and how its work is spread, counted.
#include <gtest/gtest.h>

#include "cuda/simt/counters.h"
#include "cuda/ssd_scan/backward_plan.h"
#include "cuda/ssd_scan/backward_testing.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

template <class T>
simt::Counters count(const ScanBackwardProblem<T>& problem) {
  simt::set_counting(true);
  (void)problem.run(Method::automatic);
  simt::set_counting(false);
  EXPECT_TRUE(simt::last_counters().sees_plain_accesses);
  return simt::sum_of_counters();
}
double ratio(std::uint64_t units, std::uint64_t ideal) {
  return static_cast<double>(units) / static_cast<double>(ideal);
}

TEST(SsdScanBackwardCounting, MovesWhatItsPlanSays) {
  const ScanBackwardProblem<bf16> problem{1, 1024, 8, 64, 1, 128};
  const simt::Counters c = count(problem);
  const auto plan = ssd_scan::plan_backward(problem.dims(), problem.strides(), sizeof(bf16), Method::automatic);
  ASSERT_EQ(plan.chunk, 64);
  const double tokens = 1024, heads = 8, channels = heads * 64, vectors = 128, state = channels * vectors;
  const double compulsory = tokens * (3 * channels + 4 * vectors) * 2 + tokens * heads * 2 * 4 + state * 4;
  // Beside it: x and d_y once more, B and C for each head, and two states of each chunk, written and read.
  const double plan_adds =
      tokens * (2 * channels + 2 * vectors * heads) * 2 + 4 * static_cast<double>(plan.states) * sizeof(bf16);
  const auto moved = static_cast<double>(c.global_read.bytes + c.global_write.bytes);
  EXPECT_GE(moved, 0.98 * (compulsory + plan_adds));  // the walks leave out a last chunk each
  EXPECT_LE(moved, 1.05 * (compulsory + plan_adds));
  // Sectors are full, but for dt and d_dt: of theirs, one head's is 4 bytes of 32.
  EXPECT_LE(ratio(c.global_read.units, c.global_read.ideal_units), 1.06);
  EXPECT_LE(ratio(c.global_write.units, c.global_write.ideal_units), 1.06);
  EXPECT_LE(ratio(c.shared_read.units, c.shared_read.ideal_units), 1.02);
  EXPECT_LE(ratio(c.shared_write.units, c.shared_write.ideal_units), 1.02);
}

TEST(SsdScanBackwardCounting, FloatMeetsNoBankTwice) {
  const simt::Counters c = count(ScanBackwardProblem<float>{1, 200, 2, 64, 1, 128});
  EXPECT_LE(ratio(c.shared_read.units, c.shared_read.ideal_units), 1.02);
  EXPECT_LE(ratio(c.shared_write.units, c.shared_write.ideal_units), 1.02);
}

}  // namespace
}  // namespace assay::gpu
