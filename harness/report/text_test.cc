#include "harness/report/text.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmath>

namespace assay::harness {
namespace {

TEST(Text, Numbers) {
  EXPECT_EQ(number_text(0.1f), "0.100000001");
  EXPECT_EQ(number_text(-HUGE_VAL), "-inf");
  EXPECT_EQ(number_text(std::nan("")), "nan");
  EXPECT_EQ(headroom_text(3.14159), "3.14x");
  EXPECT_EQ(headroom_text(HUGE_VAL), "exact");
  EXPECT_EQ(headroom_text(0), "0x");
  EXPECT_EQ(count_text(1, "case"), "1 case");
  EXPECT_EQ(count_text(0, "case"), "0 cases");
}

TEST(Text, Times) {
  EXPECT_EQ(seconds_text(-1), "0.0 s");
  EXPECT_EQ(seconds_text(0.44), "0.4 s");
  EXPECT_EQ(seconds_text(59.4), "59 s");
  EXPECT_EQ(seconds_text(59.6), "1 min 0 s");
  EXPECT_EQ(seconds_text(3725), "1 h 2 min");
}

TEST(Text, WhatACandidateSaysCannotSteerTheTerminal) {
  EXPECT_EQ(displayable("a\x1b[2Jb\tc\x7f"), "a [2Jb c ");
  EXPECT_EQ(displayable("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"), "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80");
  EXPECT_EQ(displayable("\xFF\xC3"), "??");
  EXPECT_EQ(displayable("\xC0\xAF"), "??");            // overlong
  EXPECT_EQ(displayable("\xED\xA0\x80"), "???");       // a surrogate
  EXPECT_EQ(displayable("\xF4\x90\x80\x80"), "????");  // beyond U+10FFFF
}

TEST(Text, ColourIsForTerminalsThatWantIt) {
  EXPECT_EQ(painted("FAILED", Tone::bad, {}), "FAILED");
  EXPECT_EQ(painted("FAILED", Tone::bad, {.colour = true}), "\x1b[31mFAILED\x1b[0m");
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  EXPECT_FALSE(text_style(pipe_ends[1]).terminal);
  EXPECT_FALSE(text_style(pipe_ends[1]).colour);
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
}

TEST(Text, NoColorAndDumbTerminalsAreHonoured) {
  const int terminal = ::posix_openpt(2 /* O_RDWR */);
  if (terminal < 0) GTEST_SKIP() << "no pseudo terminal here";
  ASSERT_EQ(::isatty(terminal), 1);
  ::setenv("TERM", "xterm", 1);
  ::unsetenv("NO_COLOR");
  EXPECT_TRUE(text_style(terminal).colour);
  ::setenv("NO_COLOR", "", 1);  // empty is as good as unset, says no-color.org
  EXPECT_TRUE(text_style(terminal).colour);
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(text_style(terminal).colour);
  EXPECT_TRUE(text_style(terminal).terminal);
  ::setenv("TERM", "dumb", 1);
  EXPECT_FALSE(text_style(terminal).terminal);
  ::close(terminal);
}

}  // namespace
}  // namespace assay::harness
