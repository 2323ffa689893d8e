#include "tools/selection.h"

#include <gtest/gtest.h>

#include <set>

#include "harness/io/temporary_folder.h"
#include "tools/cli.h"

namespace assay::tools {
namespace {

using harness::Case;
using Words = std::vector<std::string>;

const std::vector<Case>& quick() {
  static const std::vector<Case> cases = harness::list_cases(harness::Tier::quick);
  return cases;
}
std::string error_of(const Words& filters) {
  try {
    select_cases(quick(), filters);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Selection, WordsJoinToFilters) {
  EXPECT_EQ(join_filters({}), Words{});
  EXPECT_EQ(join_filters({"rms_norm", "gated_rms_norm", "dtype=bf16"}),
            (Words{"rms_norm", "gated_rms_norm dtype=bf16"}));
  EXPECT_EQ(join_filters({"dtype=bf16", "rows=7"}), (Words{"dtype=bf16 rows=7"}));
  EXPECT_EQ(join_filters({"dtype=bf16", "rms_norm", "gated_rms_norm"}),
            (Words{"rms_norm dtype=bf16", "gated_rms_norm dtype=bf16"}));
  // A case line, quoted or not.
  const std::string line = to_line(quick()[5]);
  EXPECT_EQ(join_filters({line, line}), (Words{line, line}));
  Words words;
  for (std::size_t at = 0, end = 0; end != std::string::npos; at = end + 1) {
    end = line.find(' ', at);
    words.push_back(line.substr(at, end - at));
  }
  EXPECT_EQ(join_filters(words), Words{line});
}

TEST(Selection, ChoosesWhatAnyFilterMatches) {
  ASSERT_GE(quick().size(), 1500u);
  EXPECT_EQ(select_cases(quick(), {}), quick());
  const auto forward = select_cases(quick(), {"rms_norm/forward"});
  const auto both = select_cases(quick(), {"rms_norm/forward", "rms_norm dtype=bf16"});
  for (const Case& c : forward) EXPECT_EQ(c.operation(), "rms_norm.forward");
  EXPECT_GT(both.size(), forward.size());
  for (const Case& c : both) EXPECT_TRUE(c.path == "forward" || c.dtype == harness::DType::bfloat16);
  std::set<std::string> lines;
  for (const Case& c : both) EXPECT_TRUE(lines.insert(to_line(c)).second);
  EXPECT_EQ(select_cases(quick(), {to_line(quick()[9])}), std::vector<Case>{quick()[9]});
}

TEST(Selection, ACompleteLineNeedNotBeInTheTier) {
  Case c = quick()[0];
  c.seed = 987654321;
  EXPECT_EQ(select_cases(quick(), {to_line(c)}), std::vector<Case>{c});
  c.sizes[0].first = "columns";
  EXPECT_NE(error_of({to_line(c)}), "no error");
  EXPECT_NE(error_of({"rms_norm/sideways dtype=f32 fill=model seed=1"}), "no error");
}

TEST(Selection, AFilterThatMeansNothingIsAnErrorWithNearMisses) {
  EXPECT_EQ(error_of({"rmsnorm"}), "no case matches \"rmsnorm\"; did you mean \"rms_norm\"?; see assay list --cases");
  EXPECT_NE(error_of({"rms_norm dtype=bf61"}).find("\"dtype=bf61\"; did you mean \"dtype=bf16\""), std::string::npos);
  EXPECT_NE(error_of({"rms_norm", "nothing*like*it"}).find("no case matches \"nothing*like*it\""), std::string::npos);
  EXPECT_NE(error_of({"gated_rms_norm residual=none"}).find("no case matches all of"), std::string::npos);
  EXPECT_LT(error_of({std::string(100'000, 'x')}).size(), 500u);
}

TEST(Selection, FurtherSeedsAreNewCases) {
  const std::vector<Case> one = {quick()[0]};
  const auto more = with_further_seeds(one, 3);
  ASSERT_EQ(more.size(), 4u);
  std::set<std::uint64_t> seeds;
  for (const Case& c : more) seeds.insert(c.seed);
  EXPECT_EQ(seeds.size(), 4u);
  EXPECT_EQ(more[0], one[0]);
  EXPECT_EQ(with_further_seeds(one, 0), one);
}

TEST(Selection, ShardsAreDisjointAndComplete) {
  std::vector<Case> all;
  for (const char* part : {"1/3", "2/3", "3/3"}) {
    const auto some = of_shard(quick(), parse_shard(part));
    EXPECT_NEAR(static_cast<double>(some.size()), static_cast<double>(quick().size()) / 3, 1);
    all.insert(all.end(), some.begin(), some.end());
  }
  std::set<std::string> lines;
  for (const Case& c : all) lines.insert(to_line(c));
  EXPECT_EQ(lines.size(), quick().size());
  for (const char* wrong :
       {"", "1", "0/2", "3/2", "1/0", "a/b", "1/2x", "-1/2", "1/", "/2", "99999999999999999999/2"}) {
    EXPECT_THROW(parse_shard(wrong), UsageError) << wrong;
  }
}

TEST(Selection, FiltersFromAFileMustMeanSomething) {
  const harness::TemporaryFolder folder;
  const auto read = [&](std::string_view text) { return read_filters(folder.put("f", text).string(), quick()); };
  EXPECT_EQ(read("# what we ship\nrms_norm   dtype=bf16 # soon all\n\n gated_rms_norm\n"),
            (Words{"rms_norm dtype=bf16", "gated_rms_norm"}));
  EXPECT_THROW(read(""), UsageError);
  EXPECT_THROW(read("rms_norm\nrmsnorm\n"), UsageError);
  EXPECT_THROW(read_filters((folder / "none").string(), quick()), std::runtime_error);
}

TEST(NearMisses, AreFewAndNear) {
  const Words known = {"verify", "list", "golden", "report"};
  EXPECT_EQ(did_you_mean("vrify", known), "; did you mean \"verify\"?");
  EXPECT_EQ(did_you_mean("lits", known), "; did you mean \"list\"?");
  EXPECT_EQ(did_you_mean("banana", known), "");
  EXPECT_EQ(did_you_mean("", known), "");
}

}  // namespace
}  // namespace assay::tools
