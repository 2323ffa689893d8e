#include "harness/io/strict_json.h"

#include <gtest/gtest.h>

namespace assay::harness {
namespace {

std::string error_of(std::string_view text) {
  try {
    parse_json(text);
  } catch (const JsonError& error) {
    return error.what();
  }
  return "no error";
}

TEST(StrictJson, BuildsTheTreeThatWasWritten) {
  const std::string text =
      R"({"a":[1,-2,2.5,null,true,"x"],"b":{"c":18446744073709551615,"d":{}},"e":9007199254740993})";
  EXPECT_EQ(parse_json(text).dump(), text);
  EXPECT_EQ(parse_json("3"), 3);
  EXPECT_EQ(parse_json("\xEF\xBB\xBF[1]").dump(), "[1]");  // a byte order mark is no error
}

TEST(StrictJson, RefusesAKeyThatAppearsTwice) {
  EXPECT_EQ(error_of(R"({"a": 1, "b": {"c/d": 1, "c/d": 2}})"), "/b/c~1d: the key appears twice; want it once");
  EXPECT_EQ(error_of(R"([{"a": 1}, {"a": 1}])"), "no error");
}

TEST(StrictJson, RefusesDeepNestingWithoutRecursion) {
  const std::string deepest = std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']');
  EXPECT_EQ(error_of(deepest), "no error");
  EXPECT_NE(error_of('[' + deepest + ']').find("nested deeper than 32 levels"), std::string::npos);
  EXPECT_NE(error_of(std::string(10'000'000, '[')).find("nested deeper than 32 levels"), std::string::npos);
}

TEST(StrictJson, NamesThePlaceOfASyntaxError) {
  EXPECT_EQ(error_of(""), "/: the file is empty; want JSON");
  EXPECT_EQ(error_of(" \n"), "/: the file is empty; want JSON");
  EXPECT_TRUE(error_of(R"({"a": [1, 2,, 3]})").starts_with("/a/2: parse error at line 1, column 13"));
  EXPECT_NE(error_of("[NaN]").find("/0: parse error"), std::string::npos);
  EXPECT_NE(error_of("[1] [2]").find("expected end of input"), std::string::npos);
  EXPECT_NE(error_of("[1e400]").find("/0: number overflow parsing '1e400'"), std::string::npos);
  EXPECT_NE(error_of("[\"\xFF\"]").find("ill-formed UTF-8"), std::string::npos);
  EXPECT_NE(error_of("[1] // comment").find("parse error"), std::string::npos);
}

TEST(StrictJson, KeepsMessagesShortAndPrintable) {
  const std::string text = error_of("[\"" + std::string(100'000, 'x') + "\x01\"]");
  EXPECT_LT(text.size(), 400u);
  EXPECT_EQ(text.find('\x01'), std::string::npos);
  EXPECT_EQ(quoted(std::string_view("a\nb")), "\"a?b\"");
  EXPECT_EQ(quoted(std::string_view(text).substr(0, 100)).size(), 85u);
  EXPECT_EQ(json_pointer({"a/b", std::string_view("c\0~", 3)}), "/a~1b/c?~0");
}

}  // namespace
}  // namespace assay::harness
