#include "harness/report/table.h"

#include <gtest/gtest.h>

#include "harness/report/sample_run.h"

namespace assay::harness {
namespace {

TEST(Table, APassedRun) {
  EXPECT_EQ(table(sample_pass(), {}),
            "operation         dtype  cases  PASSED  headroom  least at\n"
            "rms_norm.forward  f32        1       1     3.14x  output.hidden_states\n"
            "\n"
            "Note: a CPU run cannot show hardware timing\n"
            "PASSED: 1 case on cpu:simt (assay 0.1): 1 PASSED in 1.8 s\n");
}

TEST(Table, ARunWithEverything) {
  const std::string text = table(sample_run(), {});
  EXPECT_TRUE(text.starts_with(
      "operation          dtype  cases  PASSED  FAILED  CRASHED  TIMEOUT  NOT_SUPPORTED  SKIPPED  headroom  least at\n"
      "rms_norm.backward  bf16       1       -       1        -        -              -        -    0.004x  "
      "grad.weight\n"
      "rms_norm.forward   bf16       4       -       -        1        1              1        1         -\n"
      "rms_norm.forward   f32        1       1       -        -        -              -        -     3.14x  "
      "output.hidden_states\n"
      "\n"
      "trust      operation          dtype  tensor       compared  why\n"
      "UNTRUSTED  rms_norm.backward  bf16   grad.weight         3  a planted error went unreported\n"
      "\n"
      "NOT_SUPPORTED: no bf16 here (1 case)\n"
      "\n"
      "FAILED rms_norm/backward"))
      << text;
  EXPECT_TRUE(
      text.ends_with("NOT PASSED: 6 cases on cpu:simt (assay 0.1): 1 PASSED, 1 FAILED, 1 CRASHED, 1 TIMEOUT, "
                     "1 NOT_SUPPORTED, 1 SKIPPED, 1 tensor not trusted in 1.8 s\n"))
      << text;
  EXPECT_NE(text.find("\nTIMEOUT rms_norm/forward"), std::string::npos);
}

TEST(Table, WhatWasCounted) {
  RunResult run = sample_pass();
  run.cases[0].variant = "warp_per_row";
  run.cases.push_back(run.cases[0]);  // smaller, so not shown
  run.cases[0].counters = {{"global_read.bytes", 3'000'000}, {"global_write.bytes", 350'000},
                           {"global_read.sectors", 120},     {"global_read.ideal_sectors", 100},
                           {"compulsory_bytes", 3'000'000},  {"tensor_operations.bf16", 2'500'000}};
  run.cases[1].counters = {{"global_read.bytes", 3}};
  EXPECT_NE(table(run, {}).find("counted, the largest  dtype  variant           kB  of compulsory  sectors  wavefronts "
                                " tensor Mop  least us  by\n"
                                "rms_norm.forward      f32    warp_per_row  3350.0          1.117    1.200           - "
                                "       2.50      1.00  memory\n"
                                "Compulsory: every tensor once. Sectors, wavefronts: over the fewest. Least us: "
                                "predicted for H100 SXM from the counts, not measured.\n"),
            std::string::npos)
      << table(run, {});
}

TEST(Table, TellsTheFirstFailuresAndCountsTheRest) {
  RunResult run = sample_run();
  run.cases.assign(9, sample_failure());
  const std::string text = table(run, {.style = {}, .full_failures = 2});
  std::size_t told = 0;
  for (std::size_t at = 0; (at = text.find("\nFAILED rms_norm", at)) != std::string::npos; ++at) ++told;
  EXPECT_EQ(told, 2u);
  EXPECT_NE(text.find("7 cases more did not pass; --json FILE keeps them all."), std::string::npos);
}

TEST(Table, NothingRanIsNoPass) {
  EXPECT_EQ(table({}, {}), "NOT PASSED: 0 cases on no target: nothing ran in 0.0 s\n");
}

TEST(Table, ColoursTheVerdict) {
  EXPECT_TRUE(verdict_line(sample_pass(), {.colour = true}).starts_with("\x1b[32mPASSED\x1b[0m"));
  EXPECT_TRUE(verdict_line(sample_run(), {.colour = true}).starts_with("\x1b[31mNOT PASSED\x1b[0m"));
}

}  // namespace
}  // namespace assay::harness
