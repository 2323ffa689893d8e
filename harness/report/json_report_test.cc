#include "harness/report/json_report.h"

#include <gtest/gtest.h>

#include <cmath>

#include "harness/io/file.h"
#include "harness/io/strict_json.h"
#include "harness/io/temporary_folder.h"
#include "harness/report/sample_run.h"

namespace assay::harness {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_json_report(text);
  } catch (const JsonError& error) {
    return error.what();
  }
  return "no error";
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  if (at == std::string::npos) throw std::logic_error("the test replaces nothing: " + from);
  return text.replace(at, from.size(), to);
}

TEST(JsonReport, KeepsEverything) {
  RunResult run = sample_run();
  run.cases[1].tensors[1].got = std::nextafter(0.1, 1);
  run.cases[1].tensors[1].wanted = -HUGE_VAL;
  run.cases[1].tensors[1].limit = 5e-324;
  run.cases[0].counters = {{"global_read.bytes", std::int64_t{1} << 60}, {"atomics", 0}};
  const std::string text = to_json(run);
  const RunResult back = parse_json_report(text);
  EXPECT_EQ(to_json(back), text);
  EXPECT_EQ(back.cases[0].counters, run.cases[0].counters);
  EXPECT_TRUE(back.cases[1].counters.empty());
  ASSERT_EQ(back.cases.size(), run.cases.size());
  const TensorResult &a = run.cases[1].tensors[1], &b = back.cases[1].tensors[1];
  EXPECT_EQ(b.got, a.got);
  EXPECT_EQ(b.wanted, a.wanted);
  EXPECT_EQ(b.limit, a.limit);
  EXPECT_EQ(b.pattern, a.pattern);
  EXPECT_EQ(b.failing, 12);
  EXPECT_EQ(b.status, Status::failed);
  EXPECT_EQ(back.cases[1].message, run.cases[1].message);
  EXPECT_EQ(back.cases[0].tensors[1].headroom, HUGE_VAL);
  EXPECT_EQ(back.trust[1].reason, run.trust[1].reason);
  EXPECT_EQ(back.notes, run.notes);
  EXPECT_EQ(back.exit_code(), 1);
  EXPECT_EQ(parse_json_report(to_json(sample_pass())).exit_code(), 0);
}

TEST(JsonReport, SaysTheVerdictWithoutAProgram) {
  const auto json = parse_json(to_json(sample_run()));
  EXPECT_EQ(json["assay_report"], 1);
  EXPECT_EQ(json["verdict"], "NOT PASSED");
  EXPECT_EQ(json["exit_code"], 1);
  EXPECT_EQ(json["counts"]["FAILED"], 1);
  EXPECT_EQ(json["cases"][0]["tensors"][1]["headroom"], "inf");
}

TEST(JsonReport, NaNAndBytesThatAreNoTextAreSurvived) {
  RunResult run = sample_run();
  run.cases[1].tensors[1].got = std::nan("");
  run.cases[1].message = "\xFF\x1b\n\xC3\xA9";
  const RunResult back = parse_json_report(to_json(run));
  EXPECT_TRUE(std::isnan(back.cases[1].tensors[1].got));
  EXPECT_EQ(back.cases[1].message, "? \n\xC3\xA9");
}

TEST(JsonReport, NamesWhatIsWrongWithAFile) {
  const std::string good = to_json(sample_run());
  EXPECT_EQ(error_of("{}"), "/: no assay_report; want a file that assay verify --json wrote");
  EXPECT_EQ(error_of("[1]"), "/: no assay_report; want a file that assay verify --json wrote");
  EXPECT_EQ(error_of(replaced(good, "\"assay_report\": 1", "\"assay_report\": 2")),
            "/assay_report: unknown version; want 1, the one this program reads");
  EXPECT_EQ(error_of(replaced(good, "\"status\": \"CRASHED\"", "\"status\": \"crashed\"")),
            "/cases/2/status: unknown; want one of PASSED, FAILED, CRASHED, TIMEOUT, NOT_SUPPORTED, SKIPPED");
  EXPECT_EQ(error_of(replaced(good, "\"elements\": 96", "\"elements\": 9.5")),
            "/cases/0/tensors/0/elements: no integer; want one");
  EXPECT_EQ(error_of(replaced(good, "\"headroom\": \"inf\"", "\"headroom\": \"big\"")),
            "/cases/0/tensors/1/headroom: no number; want one, or \"nan\", \"inf\", \"-inf\"");
  EXPECT_EQ(error_of(replaced(good, "\"worst_at\"", "\"worst\"")), "/cases/0/tensors/0: no key \"worst_at\"; want it");
  EXPECT_NE(error_of(good.substr(0, good.size() / 2)).find("parse error"), std::string::npos);
  const TemporaryFolder folder;
  EXPECT_THROW(read_json_report(folder / "none"), FileError);
  EXPECT_THROW(read_json_report(folder.put("f", "{}")), FileError);
  write_json(sample_run(), folder / "g");
  EXPECT_EQ(to_json(read_json_report(folder / "g")), good);
}

TEST(Merge, MakesOneRunOfItsShards) {
  RunResult a = sample_pass(), b = sample_pass();
  b.cases[0].line = "rms_norm/forward rows=9 dtype=f32";
  b.trust[0].min_headroom = 2;
  const RunResult all = merge({a, b});
  EXPECT_EQ(all.cases.size(), 2u);
  EXPECT_EQ(all.exit_code(), 0);
  ASSERT_EQ(all.trust.size(), 1u);
  EXPECT_EQ(all.trust[0].compared, 424);
  EXPECT_EQ(all.trust[0].min_headroom, 2);
  EXPECT_EQ(all.notes, a.notes);
  EXPECT_EQ(all.seconds, 3.5);
}

TEST(Merge, TrustIsThatOfTheWorstShardThatComparedAnything) {
  RunResult good = sample_pass(), bad = sample_pass();
  good.cases.clear(), bad.cases.clear();
  bad.trust[0].trust = Trust::inconclusive;
  bad.trust[0].reason = "the matched reference is off";
  EXPECT_EQ(merge({good, bad}).trust[0].trust, Trust::inconclusive);
  EXPECT_EQ(merge({bad, good}).trust[0].reason, "the matched reference is off");
  bad.trust[0].compared = 0;
  EXPECT_EQ(merge({good, bad}).trust[0].trust, Trust::trusted);
  EXPECT_EQ(merge({bad, good}).trust[0].trust, Trust::trusted);
  EXPECT_EQ(merge({bad, bad}).trust[0].trust, Trust::inconclusive);
}

TEST(Merge, RefusesWhatIsNotOneRun) {
  RunResult a = sample_pass(), other = sample_pass();
  EXPECT_THROW(merge({a, a}), std::invalid_argument);  // a case twice
  other.cases.clear();
  other.target = "cuda:NVIDIA H100";
  EXPECT_THROW(merge({a, other}), std::invalid_argument);
  EXPECT_THROW(merge({}), std::invalid_argument);
}

}  // namespace
}  // namespace assay::harness
