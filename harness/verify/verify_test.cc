// Verdicts on candidates that go wrong in one way each. What they do is in harness/worker/testing/hostile.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "harness/verify/run.h"

namespace assay::harness {
namespace {

namespace fs = std::filesystem;

Case line(const char* text) { return parse_case(text); }
const char* const kF32 =
    "rms_norm/forward rows=7 width=96 residual=none layout=compact eps=1e-05 dtype=f32 fill=model seed=1";
const char* const kBf16 =
    "rms_norm/forward rows=7 width=96 residual=same layout=strided eps=1e-05 dtype=bf16 fill=model seed=2";

RunResult run_hostile(const std::string& name, double timeout_scale = 1,
                      std::vector<Case> cases = {line(kF32), line(kBf16)}) {
  VerifyOptions options;
  options.candidate = fs::path(ASSAY_TEST_HOSTILE) / (name + ".so");
  options.candidate_argument = options.candidate.string();
  options.worker = ASSAY_TEST_WORKER;
  options.cases = std::move(cases);
  options.jobs = 1;
  options.timeout_scale = timeout_scale;
  return verify(options);
}

TEST(Verify, PassesAndTrustsAGoodCandidate) {
  std::vector<Case> cases;
  for (const Case& c : list_cases(Tier::quick))
    if (c.operation() == "rms_norm.forward" && c.size("width") * c.size("rows") <= 2048) cases.push_back(c);
  ASSERT_GT(cases.size(), 200u);
  const RunResult r = run_hostile("base", 1, cases);
  for (const CaseResult& c : r.cases) EXPECT_EQ(c.status, Status::passed) << c.line << "\n" << c.message;
  for (const TrustResult& t : r.trust) EXPECT_EQ(t.trust, Trust::trusted) << t.tensor << ": " << t.reason;
  EXPECT_EQ(r.trust.size(), 4u);  // two outputs in two dtypes
  EXPECT_EQ(r.exit_code(), 0);
}

struct Spoilt {
  const char* candidate;
  Status status;
  std::vector<const char*> says;  // each in some failing case's message
};
void PrintTo(const Spoilt& s, std::ostream* out) { *out << s.candidate; }

class Hostile : public testing::TestWithParam<Spoilt> {};

TEST_P(Hostile, GetsItsVerdict) {
  const auto& [candidate, status, says] = GetParam();
  const RunResult r = run_hostile(candidate, status == Status::timeout ? 0.02 : 1);
  EXPECT_NE(r.exit_code(), 0);
  ASSERT_EQ(r.cases.size(), 2u);  // each costs one case, never the run
  std::string all;
  for (const CaseResult& c : r.cases) {
    EXPECT_EQ(c.status, status) << name(c.status) << ": " << c.message;
    EXPECT_NE(c.repro.find(c.line), std::string::npos);
    all += c.message + "\n";
  }
  for (const char* word : says)
    EXPECT_NE(all.find(word), std::string::npos) << "\"" << word << "\" is not in:\n" << all;
}

INSTANTIATE_TEST_SUITE_P(
    Candidates, Hostile,
    testing::Values(
        Spoilt{"crashes", Status::crashed, {"rms_norm.forward", "SIGSEGV"}},
        Spoilt{"aborts", Status::crashed, {"rms_norm.forward", "SIGABRT"}},
        Spoilt{"exits", Status::crashed, {"rms_norm.forward"}}, Spoilt{"throws", Status::crashed, {"rms_norm.forward"}},
        Spoilt{"hangs", Status::timeout, {"rms_norm.forward"}},
        Spoilt{"returns_error", Status::failed, {"rms_norm.forward"}},
        Spoilt{"writes_past", Status::failed, {"output.hidden_states", "past its end", "out of bounds"}},
        Spoilt{"writes_before", Status::failed, {"output.hidden_states", "before its start", "out of bounds"}},
        Spoilt{"writes_nothing", Status::failed, {"output.hidden_states", "672 of 672 elements were never written"}},
        Spoilt{"writes_half",
               Status::failed,
               {"output.hidden_states", "were never written, the first at rows=3 width=0"}},
        Spoilt{"changes_inputs", Status::failed, {"input.hidden_states", "input were changed"}},
        Spoilt{"returns_zeros",
               Status::failed,
               {"output.hidden_states", "elements beyond their limit", "a store or a term is missing"}},
        Spoilt{"copies_inputs", Status::failed, {"output.hidden_states", "elements beyond their limit"}},
        Spoilt{"answers_differently", Status::failed, {"output.hidden_states"}},
        Spoilt{"refuses_everything", Status::not_supported, {""}}),
    [](const auto& test) { return std::string(test.param.candidate); });

// Nothing ran, or nothing that could have failed: no success.
TEST(Verify, RefusalsOfARequiredCaseFail) {
  VerifyOptions options;
  options.candidate = fs::path(ASSAY_TEST_HOSTILE) / "refuses_everything.so";
  options.worker = ASSAY_TEST_WORKER;
  options.cases = {line(kF32), line(kBf16)};
  options.required = {"rms_norm dtype=bf16"};
  const RunResult r = verify(options);
  EXPECT_EQ(r.cases[0].status, Status::not_supported);
  EXPECT_EQ(r.cases[1].status, Status::failed);
  EXPECT_NE(r.exit_code(), 0);
  options.required = {};
  options.own = true;  // our own targets may refuse nothing
  EXPECT_EQ(verify(options).cases[0].status, Status::failed);
}

TEST(Verify, AScheduleThatDisagreesIsNamed) {
  const RunResult r = run_hostile("wrong_on_one_schedule");
  EXPECT_EQ(r.cases[0].status, Status::failed);
  EXPECT_EQ(r.cases[0].schedule, "descending");
  EXPECT_NE(r.cases[0].message.find("rows=0 width=0"), std::string::npos) << r.cases[0].message;
}

TEST(Verify, AMissingDeviceSkipsEveryCaseAndIsNoSuccess) {
  const RunResult r = run_hostile("no_device");
  for (const CaseResult& c : r.cases) EXPECT_EQ(c.status, Status::skipped);
  EXPECT_EQ(r.cases.size(), 2u);
  EXPECT_NE(r.exit_code(), 0);
}

TEST(Verify, ACandidateThatCannotBeUsedIsAnError) {
  for (const char* name : {"missing_symbol", "other_abi", "null_table", "crashes_in_load", "there_is_no_such_library"})
    EXPECT_THROW(run_hostile(name), std::runtime_error) << name;
}

TEST(Verify, ASmallRunIsNotTrustedBlindly) {
  // One element, of one row that is one channel wide: y is weight * sign(x), which no case can tell from a constant.
  const RunResult r = run_hostile(
      "base", 1,
      {line("rms_norm/forward rows=0 width=8 residual=none layout=compact eps=1e-05 dtype=f32 fill=model seed=1")});
  EXPECT_EQ(r.cases[0].status, Status::passed);
  ASSERT_EQ(r.trust.size(), 1u);
  EXPECT_EQ(r.trust[0].trust, Trust::untrusted);
  EXPECT_NE(r.exit_code(), 0);
}

TEST(Verify, WrongCasesStopTheRunBeforeItStarts) {
  for (const char* text :
       {"rms_norm/forward rows=7 dtype=f32 fill=model seed=1",
        "rms_norm/sideways rows=7 width=8 residual=none layout=compact eps=1e-05 dtype=f32 fill=model seed=1",
        "rms_norm/forward rows=7 width=0 residual=none layout=compact eps=1e-05 dtype=f32 fill=model seed=1",
        "rms_norm/forward rows=7 width=8 residual=none layout=compact eps=0 dtype=f32 fill=model seed=1",
        "rms_norm/forward rows=7 width=12 residual=none layout=compact eps=0.25 dtype=f32 fill=integer seed=1",
        "rms_norm/forward rows=7 width=8 residual=fp32 layout=compact eps=1e-05 dtype=f32 fill=model seed=1",
        "gated_rms_norm/forward rows=7 width=10 groups=3 gate=yes layout=compact eps=1e-05 dtype=f32 fill=model seed=1",
        "no_such_operation/forward dtype=f32 fill=model seed=1"})
    EXPECT_THROW(run_hostile("base", 1, {line(text)}), std::invalid_argument) << text;
}

}  // namespace
}  // namespace assay::harness
