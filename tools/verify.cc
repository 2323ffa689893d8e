// assay verify: run cases and fixtures on a candidate and judge them.
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <random>

#include "harness/verify/run.h"
#include "tools/cli.h"
#include "tools/run_output.h"
#include "tools/selection.h"

namespace assay::tools {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::vector<std::string> filters, fixtures;
  std::string candidate = "simt", tier, require, shard = "1/1", worker, schedule, count, json, junit;
  int schedules = 0, jobs = 0;
  std::int64_t further_seeds = 0;
  std::uint64_t seed = 0;
  bool seed_given = false;
};

// "simt", "cuda": ours, beside this program; to be counted, simt as it is built for that. Anything else is the path of
// a library.
fs::path candidate_library(const std::string& name, bool count, bool& own) {
  own = name == "simt" || name == "cuda";
  const std::string counting = count && name == "simt" ? "_counting" : "";
  const fs::path path = own ? library_path("assay_" + name + counting) : fs::path(name);
  std::error_code error;
  if (fs::is_regular_file(path, error)) return path.has_parent_path() ? path : "." / path;
  if (own) {
    throw UsageError(fmt::format("candidate {}: {} is not there; build it: cmake --build --preset {}", name,
                                 path.string(), name == "cuda" ? "cuda" : "release"));
  }
  throw UsageError(fmt::format("candidate \"{}\": {}; want simt, cuda or the path of a shared library{}", name,
                               fs::exists(path, error) ? "is no regular file" : "no such name or file",
                               did_you_mean(name, {"simt", "cuda"})));
}

std::vector<harness::Case> choose_cases(const Options& o, harness::VerifyOptions& run) {
  if (o.tier.empty() && o.filters.empty() && !o.fixtures.empty()) return {};  // the fixtures alone
  const harness::Tier tier = harness::tier_from_name(o.tier.empty() ? "quick" : o.tier);
  std::uint64_t soak_seed = o.seed;
  if (tier == harness::Tier::soak && !o.seed_given) soak_seed = std::random_device{}();
  if (tier == harness::Tier::soak) fmt::print(stderr, "soak: repeat with --tier soak --seed {}\n", soak_seed);
  const std::vector<harness::Case> all = harness::list_cases(tier, soak_seed);
  if (!o.require.empty()) run.required = read_filters(o.require, all);
  std::vector<harness::Case> cases = select_cases(all, join_filters(o.filters));
  if (o.seed_given && tier != harness::Tier::soak)
    for (harness::Case& c : cases) c.seed = o.seed;
  return of_shard(with_further_seeds(cases, o.further_seeds), parse_shard(o.shard));
}

int verify_command(const Options& o) {
  harness::VerifyOptions run;
  run.candidate = candidate_library(o.candidate, !o.count.empty(), run.own);
  run.candidate_argument = o.candidate;
  run.worker = o.worker.empty() ? worker_path() : fs::path(o.worker);
  std::error_code error;
  if (!fs::exists(run.worker, error)) {
    throw UsageError(fmt::format("worker {} is not there; build it, or name one with --worker", run.worker.string()));
  }
  run.fixtures = of_shard(expand_json_files(o.fixtures), parse_shard(o.shard));
  run.cases = choose_cases(o, run);
  run.schedule = o.schedule;
  run.schedules = o.schedules;
  run.jobs = o.jobs;
  run.count_only = o.count == "only";
  run.count = !o.count.empty() && !run.count_only;
  if (run.cases.empty() && run.fixtures.empty()) throw UsageError("nothing to do; want fewer shards than cases");

  RunOutput output({.subject = "candidate",
                    .target = o.candidate,
                    .candidate = run.candidate.string(),
                    .notes = {},
                    .cases = {},
                    .trust = {}},
                   {o.json, o.junit});
  run.progress = [&](const harness::CaseResult& result, std::size_t done, std::size_t total) {
    output.add(result, done, total);
  };
  return output.finish(harness::verify(run));
}

}  // namespace

void add_verify(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("verify", "Run cases and fixtures on a candidate and judge them");
  const auto option = [&](const char* flags, auto& value, const char* type, const char* what) {
    return command->add_option(flags, value, what)->type_name(type);
  };
  const auto whole = [](std::uint64_t least, std::uint64_t most) {
    return CLI::Validator(
        [=](const std::string& text) {
          return CLI::Range(least, most)(text).empty()
                     ? ""
                     : fmt::format("{}; want a whole number from {} to {}", text, least, most);
        },
        "");
  };
  option("FILTER", o->filters, "", "A case line or its words: rms_norm, rms_norm/backward, dtype=bf16, a glob");
  option("-c,--candidate", o->candidate, "C", "simt (default), cuda, or the path of a shared library");
  option("-f,--fixture", o->fixtures, "FILE", "Fixtures or folders; without FILTER and --tier only these");
  option("--tier", o->tier, "T", "quick (default), full or soak");
  option("--require", o->require, "FILE", "Filters that the candidate must support, one a line");
  option("--schedules", o->schedules, "N", "At most N of the target's thread schedules")->check(whole(1, 1000));
  option("--schedule", o->schedule, "NAME", "Only this one of them, as skew-random");
  option("-j,--jobs", o->jobs, "N", "Workers at a time (default: one per core)")->check(whole(1, 4096));
  option("--shard", o->shard, "I/N", "Only part I of N, as 2/5");
  CLI::Option* seed = option("--seed", o->seed, "S", "This seed instead of the cases' own")
                          ->check(whole(0, std::numeric_limits<std::uint64_t>::max()));
  option("--seeds", o->further_seeds, "N", "Repeat with N further seeds")->check(whole(1, 1'000'000));
  command->add_flag("--count", o->count, "Also count what a case moves and computes, and predict; =only: no verdict")
      ->check(CLI::IsMember({"true", "only"}));
  option("--worker", o->worker, "FILE", "Another worker program, a sanitized one say");
  option("--json", o->json, "FILE", "Write the complete result");
  option("--junit", o->junit, "FILE", "Write JUnit XML");
  command->footer(
      fmt::format("{}\nExamples:\n  assay verify rms_norm dtype=bf16 --json result.json\n"
                  "  assay verify --candidate ./libmine.so --fixture golden/upstream/rms_norm_0_f32.json",
                  kExitCodes));
  command->callback([o, seed, &exit_code] {
    o->seed_given = seed->count() > 0;
    exit_code = verify_command(*o);
  });
}

}  // namespace assay::tools
