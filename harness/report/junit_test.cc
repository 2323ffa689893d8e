#include "harness/report/junit.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "harness/io/file.h"
#include "harness/io/temporary_folder.h"
#include "harness/report/sample_run.h"

namespace assay::harness {
namespace {

using namespace std::string_literals;

// Well-formed XML, as far as this report uses it: nested tags, quoted attributes, the four entities, no control
// characters.
void expect_well_formed(const std::string& xml) {
  std::vector<std::string> open;
  const std::string head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  ASSERT_TRUE(xml.starts_with(head));
  for (std::size_t at = head.size(); at < xml.size();) {
    if (xml[at] != '<') {
      const std::size_t end = std::min(xml.find('<', at), xml.size());
      const std::string text = xml.substr(at, end - at);
      EXPECT_EQ(text.find('>'), std::string::npos);
      for (std::size_t amp = 0; (amp = text.find('&', amp)) != std::string::npos; ++amp) {
        const std::string entity = text.substr(amp, text.find(';', amp) - amp + 1);
        EXPECT_TRUE((std::set<std::string>{"&amp;", "&lt;", "&gt;", "&quot;"}.count(entity))) << entity;
      }
      at = end;
      continue;
    }
    std::size_t end = at + 1;
    for (bool quoted = false; end < xml.size() && (quoted || xml[end] != '>'); ++end) {
      ASSERT_FALSE(xml[end] == '<') << xml.substr(at, 80);
      if (xml[end] == '"') quoted = !quoted;
    }
    ASSERT_LT(end, xml.size());
    const std::string tag = xml.substr(at + 1, end - at - 1);
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '/') {
      ASSERT_FALSE(open.empty());
      EXPECT_EQ(tag.substr(1), open.back());
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
    at = end + 1;
  }
  EXPECT_TRUE(open.empty());
  for (const char c : xml) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20);
}

TEST(JUnit, HasEveryCaseInItsSuite) {
  const std::string xml = to_junit(sample_run());
  expect_well_formed(xml);
  EXPECT_NE(
      xml.find("<testsuites name=\"assay\" tests=\"8\" failures=\"2\" errors=\"2\" skipped=\"2\" time=\"1.750000\">"),
      std::string::npos)
      << xml;
  EXPECT_NE(xml.find("<testsuite name=\"rms_norm.forward\" tests=\"5\" failures=\"0\" errors=\"2\" skipped=\"2\""),
            std::string::npos);
  EXPECT_NE(xml.find("<testsuite name=\"trust\" tests=\"2\" failures=\"1\""), std::string::npos);
  EXPECT_NE(
      xml.find(
          "<testcase classname=\"rms_norm.forward\" name=\"rms_norm/forward rows=1 dtype=f32\" time=\"0.750000\"/>"),
      std::string::npos);
  EXPECT_NE(xml.find("<failure type=\"FAILED\" message=\"FAILED rms_norm/backward"), std::string::npos);
  EXPECT_NE(xml.find("<error type=\"CRASHED\""), std::string::npos);
  EXPECT_NE(xml.find("<error type=\"TIMEOUT\""), std::string::npos);
  EXPECT_NE(xml.find("<skipped message=\"NOT_SUPPORTED: no bf16 here\"/>"), std::string::npos);
  EXPECT_NE(xml.find("is missing &lt;here&gt; &amp; &quot;there&quot;\n"), std::string::npos);
}

TEST(JUnit, SurvivesHostileText) {
  RunResult run = sample_run();
  run.candidate = "]]> <!-- \" & \x01 \xFF";
  run.cases[1].message = "\0<![CDATA[\x1b[31m\xEF\xBF\xBF"s;
  run.cases[1].line = "\"><script>";
  expect_well_formed(to_junit(run));
  expect_well_formed(to_junit({}));
}

TEST(JUnit, IsWrittenToAFile) {
  const TemporaryFolder folder;
  write_junit(sample_run(), folder / "r.xml");
  EXPECT_EQ(content(folder / "r.xml"), to_junit(sample_run()));
  EXPECT_THROW(write_junit(sample_run(), folder / "no/r.xml"), FileError);
}

}  // namespace
}  // namespace assay::harness
