#include "harness/report/failure.h"

#include <gtest/gtest.h>

#include "harness/report/sample_run.h"

namespace assay::harness {
namespace {

TEST(Failure, SaysEverythingThatAPersonNeeds) {
  EXPECT_EQ(failure_text(sample_failure(), {}),
            "FAILED rms_norm/backward rows=7 width=96 dtype=bf16 fill=model seed=7\n"
            "  the sum of the last rows is missing <here> & \"there\"\n"
            "  second line\n"
            "  schedule  descending-late\n"
            "  variant   warp_per_row\n"
            "  contract  ieee, fp32, deterministic\n"
            "  repeat    assay verify 'rms_norm/backward rows=7 width=96 dtype=bf16 fill=model seed=7'\n");
}

TEST(Failure, OneLineNamesTheTensorOrTheReason) {
  EXPECT_EQ(failure_line(sample_failure(), {}),
            "FAILED rms_norm/backward rows=7 width=96 dtype=bf16 fill=model seed=7: grad.weight, 12 of 96 elements");
  EXPECT_EQ(failure_line(sample_run().cases[2], {}),
            "CRASHED rms_norm/forward rows=2 dtype=bf16: signal 11 (segmentation fault)");
  EXPECT_EQ(failure_line(sample_run().cases[3], {}), "TIMEOUT rms_norm/forward rows=3 dtype=bf16");
}

TEST(Failure, NothingOfACandidateReachesTheTerminalRaw) {
  CaseResult c = sample_run().cases[2];
  c.message = "\x1b]0;title\x07 \xFF";
  EXPECT_EQ(failure_text(c, {}), "CRASHED rms_norm/forward rows=2 dtype=bf16\n   ]0;title  ?\n");
}

}  // namespace
}  // namespace assay::harness
