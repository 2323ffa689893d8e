#include "harness/worker/captured_output.h"

#include <gtest/gtest.h>

namespace assay::harness {
namespace {

TEST(CapturedOutput, KeepsAllOfALittle) {
  CapturedOutput output;
  output.append("one\n");
  output.append("two\n");
  EXPECT_EQ(output.text(), "one\ntwo\n");
  output.clear();
  EXPECT_EQ(output.text(), "");
}

TEST(CapturedOutput, KeepsBothEndsOfTooMuchAndCountsTheRest) {
  CapturedOutput output;
  const std::size_t total = 10 * CapturedOutput::kKeep;
  std::string all;
  while (all.size() < total) all += static_cast<char>('a' + all.size() % 26);
  for (std::size_t at = 0; at < total; at += 1000) output.append(std::string_view(all).substr(at, 1000));
  const std::string text = output.text();
  EXPECT_LT(text.size(), 2 * CapturedOutput::kKeep + 100);
  EXPECT_TRUE(text.starts_with(all.substr(0, CapturedOutput::kKeep)));
  EXPECT_TRUE(text.ends_with(all.substr(total - CapturedOutput::kKeep)));
  EXPECT_NE(text.find("[... " + std::to_string(8 * CapturedOutput::kKeep) + " bytes left out ...]"), std::string::npos);
}

TEST(Printable, KeepsTextAndSpellsOutWhatIsNone) {
  EXPECT_EQ(printable("a\tb\n"), "a\tb\n");
  EXPECT_EQ(printable("\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80"), "\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80");
  EXPECT_EQ(printable("\x1B[31mred\r"), "\\x1B[31mred\\x0D");
  EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(printable("\xFF\xC3"), "\\xFF\\xC3");                    // no UTF-8; ends too early
  EXPECT_EQ(printable("\xC0\x80"), "\\xC0\\x80");                    // overlong
  EXPECT_EQ(printable("\xED\xA0\x80"), "\\xED\\xA0\\x80");           // a surrogate
  EXPECT_EQ(printable("\xF4\x90\x80\x80"), "\\xF4\\x90\\x80\\x80");  // beyond Unicode
  EXPECT_EQ(printable("\xC2\x9B"), "\\xC2\\x9B");                    // a control character
}

TEST(TellingLines, AreTheLastOnes) {
  EXPECT_EQ(telling_lines("a\nb\nc\n", 2), "b\nc");
  EXPECT_EQ(telling_lines("a\nb", 8), "a\nb");
  EXPECT_EQ(telling_lines("", 8), "");
  EXPECT_EQ(telling_lines("\n\n", 8), "");
  EXPECT_EQ(telling_lines("one", 1), "one");
}

TEST(TellingLines, StartAtASanitizersReport) {
  const std::string report =
      "loading\n=====\n==7==ERROR: AddressSanitizer: overflow\nREAD of size 4\n    #0 f\n    #1 g\n";
  EXPECT_EQ(telling_lines(report, 1), "==7==ERROR: AddressSanitizer: overflow\nREAD of size 4\n    #0 f");
  EXPECT_EQ(telling_lines("a\nb.cc:3:4: runtime error: store to null pointer\n    #0 f\nlast\n"),
            "b.cc:3:4: runtime error: store to null pointer\n    #0 f\nlast");
  EXPECT_EQ(telling_lines("ERROR: mine\nlast\n", 1), "last");  // no sanitizer's
}

}  // namespace
}  // namespace assay::harness
