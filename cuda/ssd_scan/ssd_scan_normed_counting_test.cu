// What the scan with the norm behind it moves, counted.
#include <gtest/gtest.h>

#include "cuda/simt/counters.h"
#include "cuda/ssd_scan/normed_testing.h"
#include "cuda/ssd_scan/plan.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

double bytes(const simt::Counters& c) { return static_cast<double>(c.global_read.bytes + c.global_write.bytes); }

// Of one group of Nano 30B, 1,024 tokens: the scan, the gate and the norm, without the states between chunks.
TEST(SsdScanNormedCounting, ReadsAndWritesEverythingOnce) {
  constexpr double kTokens = 1024, kChannels = 8 * 64, kVectors = 128, kHeads = 8;
  const NormedProblem<bf16> problem{{1, 1024, 8, 64, 1, 128}};
  const double state = kChannels * kVectors * 4;
  const double compulsory = kTokens * (3 * kChannels + 2 * kVectors) * 2 + kTokens * kHeads * 4 + kChannels * 2 + state;
  for (const std::size_t shared_memory : {kBlockSharedMemory, std::size_t{163} * 1024}) {
    const auto plan = ssd_scan::plan_normed(problem.scan.dims(), 2, true, Method::automatic, shared_memory);
    ASSERT_FALSE(plan.naive);
    const double chunk_states = 2 * state * static_cast<double>(plan.chunks - 1);
    simt::set_counting(true);
    (void)NormedProblem<bf16>{problem.scan, shared_memory}.run(true, Method::automatic, false);
    simt::set_counting(false);
    const simt::Counters& c = simt::last_counters();
    ASSERT_TRUE(c.sees_plain_accesses);
    EXPECT_GE(bytes(c), compulsory + chunk_states);
    EXPECT_LE(bytes(c) - chunk_states, 1.05 * compulsory) << plan.chunk;
    EXPECT_LE(static_cast<double>(c.shared_read.units), 1.02 * static_cast<double>(c.shared_read.ideal_units));
    EXPECT_LE(static_cast<double>(c.shared_write.units), 1.02 * static_cast<double>(c.shared_write.ideal_units));
  }
}

}  // namespace
}  // namespace assay::gpu
