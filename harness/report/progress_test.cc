#include "harness/report/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "harness/report/sample_run.h"

namespace assay::harness {
namespace {

class ProgressTest : public ::testing::Test {
 protected:
  Progress progress(TextStyle style) {
    return Progress(
        style, [this](const std::string& text) { screen_ += text; }, [this] { return now_; });
  }
  std::string take() { return std::exchange(screen_, ""); }
  const CaseResult good_ = sample_run().cases[0];
  const CaseResult bad_ = sample_failure();
  double now_ = 100;
  std::string screen_;
};

TEST_F(ProgressTest, ALogGetsALineForEveryTenth) {
  Progress p = progress({});
  for (std::size_t i = 1; i <= 100; ++i) {
    now_ += 0.2;
    p(good_, i, 100);
  }
  p.finish();
  EXPECT_TRUE(screen_.starts_with("10 of 100 cases, 18 s left\n20 of 100 cases, 16 s left\n")) << screen_;
  EXPECT_TRUE(screen_.ends_with("\n100 of 100 cases\n")) << screen_;
  EXPECT_EQ(std::count(screen_.begin(), screen_.end(), '\n'), 10);
  EXPECT_EQ(screen_.find('\r'), std::string::npos);
  EXPECT_EQ(screen_.find('\x1b'), std::string::npos);
}

TEST_F(ProgressTest, AShortRunLeavesNoLinesInALog) {
  Progress p = progress({});
  for (std::size_t i = 1; i <= 100; ++i) {
    now_ += 0.01;
    p(good_, i, 100);
  }
  EXPECT_EQ(screen_, "");
}

TEST_F(ProgressTest, ASlowLogIsNotSilent) {
  Progress p = progress({});
  now_ += 31;
  p(good_, 1, 1000);
  EXPECT_EQ(take(), "1 of 1000 cases, 8 h 36 min left\n");
}

TEST_F(ProgressTest, ATerminalGetsABarAndFailuresAsTheyHappen) {
  Progress p = progress({.terminal = true, .colour = false, .columns = 60});
  now_ += 1;
  p(good_, 1, 4);
  EXPECT_EQ(take(), "\r\x1b[K[##########..............................] 1/4 3.0 s left");
  now_ += 0.01;
  p(good_, 2, 4);  // too soon to draw again
  EXPECT_EQ(take(), "");
  now_ += 0.01;
  p(bad_, 3, 4);
  EXPECT_TRUE(take().starts_with("\r\x1b[KFAILED rms_norm/backward rows"));
  now_ += 0.2;
  p(good_, 4, 4);
  EXPECT_EQ(take(), "\r\x1b[K[" + std::string(38, '#') + "] 4/4, 1 not passed ");
}

TEST_F(ProgressTest, AFloodOfFailuresIsCut) {
  Progress p = progress({});
  for (std::size_t i = 1; i <= 50; ++i) p(bad_, i, 1000);
  std::size_t told = 0;
  for (std::size_t at = 0; (at = screen_.find("FAILED", at)) != std::string::npos; ++at) ++told;
  EXPECT_EQ(told, 20u);
  EXPECT_NE(screen_.find("more cases do not pass; the report counts them\n"), std::string::npos);
}

TEST_F(ProgressTest, NarrowTerminalsAndEmptyRunsAreSurvived) {
  Progress p = progress({.terminal = true, .colour = true, .columns = 5});
  EXPECT_NO_THROW(p(good_, 0, 0));
  EXPECT_NO_THROW(p(good_, 1, 1));
  p.finish();
  EXPECT_TRUE(screen_.ends_with("\r\x1b[K"));
}

}  // namespace
}  // namespace assay::harness
