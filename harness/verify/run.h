// Runs: what `assay verify` and `assay golden check` do, without a command line.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/cases/family.h"
#include "harness/core/case.h"
#include "harness/core/result.h"

namespace assay::harness {

Tier tier_from_name(std::string_view name);  // throws std::invalid_argument

// All cases of a tier, in canonical order. `soak_seed` draws the soak tier's seeds.
std::vector<Case> list_cases(Tier tier, std::uint64_t soak_seed = 0);

struct VerifyOptions {
  std::filesystem::path candidate;          // the shared library
  std::string candidate_argument = "simt";  // how the user named it, for the line that repeats a case
  std::filesystem::path worker;             // the assay_worker executable
  std::vector<Case> cases;
  std::vector<std::filesystem::path> fixtures;
  std::vector<std::string> required;  // case filters that the candidate must support: a refusal is FAILED
  bool own = false;                   // one of our own targets: only the committed refusals are allowed
  std::string schedule;            // the name of the only one of the target's schedules to run; empty: all
  int schedules = 0;                  // how many of the target's schedules; 0: all
  bool count = false;                 // run each case that passes once more, counted
  bool count_only = false;            // run each case once, counted and not judged: SKIPPED
  int jobs = 0;                       // workers at a time; 0: one per core
  double timeout_scale = 1;
  // Called after every case, from one thread at a time, in the order of completion.
  std::function<void(const CaseResult&, std::size_t done, std::size_t total)> progress;
};

// Throws std::runtime_error when the candidate cannot be used at all (missing file, other ABI version, ...).
RunResult verify(const VerifyOptions& options);

// Judges the reference alone against fixtures. A file that cannot be read or has no reference is a failed case with
// its error, never a crash.
RunResult golden_check(const std::vector<std::filesystem::path>& fixtures,
                       const std::function<void(const CaseResult&, std::size_t, std::size_t)>& progress = {});

}  // namespace assay::harness
