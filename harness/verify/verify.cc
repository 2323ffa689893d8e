#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "harness/cases/fixture_calls.h"
#include "harness/cases/mamba2_block_fixture.h"
#include "harness/cases/mamba2_mixer_fixture.h"
#include "harness/core/catalogue.h"
#include "harness/core/random.h"
#include "harness/golden/drafts.h"
#include "harness/golden/golden.h"
#include "harness/verify/case_run.h"
#include "harness/verify/run.h"
#include "harness/verify/trust.h"

namespace assay::harness {
namespace {

Item item_of(const Case& c, const VerifyOptions& options) {
  const Family& fam = family(c.family);
  fam.check(c);
  Item item;
  item.line = to_line(c);
  item.operation = c.operation();
  item.dtype = c.dtype;
  item.family = &fam;
  item.calls = fam.calls(c);
  item.exact = c.fill == "integer";
  item.seed = c.seed;
  item.repro = fmt::format("assay verify \"{}\" --candidate {}", item.line, options.candidate_argument);
  const bool required = std::any_of(options.required.begin(), options.required.end(),
                                    [&](const std::string& f) { return matches(c, f); });
  item.may_refuse = !options.own && !required;  // our own targets refuse nothing of the catalogue
  return item;
}

CaseRun not_supported(const std::filesystem::path& file, const std::string& operation, const std::string& message) {
  CaseRun run;
  run.result.line = fmt::format("fixture {} candidate", file.string());
  run.result.operation = operation;
  run.result.status = Status::not_supported;
  run.result.message = message;
  return run;
}

// What a job does: a case, one operation of a fixture on the candidate, or the reference's check of a fixture.
struct Job {
  const Case* c = nullptr;
  const std::filesystem::path* fixture = nullptr;
  std::string unusable;              // the fixture as calls: why there are none
  std::shared_ptr<const Item> item;  // of the fixture
};

// A fixture's operations on the candidate; those that the catalogue lacks go to `settled`.
std::vector<Job> jobs_of(const Fixture& fixture, const VerifyOptions& options, std::vector<CaseRun>& settled) {
  const std::string file = fixture.file.string();
  const bool mixer = fixture.layer == "mamba2_mixer", block = is_mamba2_block(fixture);
  const Family* fam = mixer   ? &family(fixture.layer)
                      : block ? &family("mamba2_block")
                              : family_of_layer(fixture.layer);
  if (!fam) {
    settled.push_back(not_supported(
        file, fixture.layer + "." + fixture.path,
        fmt::format("the catalogue has no kernel operation for layer \"{}\"; only the reference was judged",
                    fixture.layer)));
    return {};
  }
  std::vector<Job> jobs;
  std::vector<Call> calls;
  FixtureCalls all = mixer   ? mixer_fixture_calls(fixture)
                     : block ? block_fixture_calls(fixture)
                             : fixture_calls(fixture);
  for (FixtureCall& fc : all.calls) {
    if (!fc.follows) calls.clear();
    calls.push_back(fc.call);
    Item item;
    item.operation = fc.call.op;
    item.line = fmt::format("fixture {} {}{}{}", file, fc.call.op, fc.step.empty() ? "" : " ", fc.step);
    item.dtype = fc.call.tensor(operation(fc.call.op).tensors.front().name).dtype;
    item.family = fam;
    item.calls = calls;
    item.recorded = std::move(fc.recorded);
    item.repro = fmt::format("assay verify --fixture {} --candidate {}", file, options.candidate_argument);
    item.may_refuse = !options.own;
    jobs.push_back({.item = std::make_shared<const Item>(std::move(item))});
  }
  if (!all.missing.empty())
    settled.push_back(not_supported(
        file, all.missing,
        fmt::format("the catalogue has no {}; of the gradients only the reference was judged", all.missing)));
  return jobs;
}

// A fixture's jobs. What is wrong with a file is told once, by the reference's check; a layer or operation without a
// kernel says so.
std::vector<Job> jobs_of(const std::filesystem::path& file, const VerifyOptions& options,
                         std::vector<CaseRun>& settled) {
  std::vector<Job> jobs = {{.fixture = &file}};
  try {
    const GoldenFile golden = read_golden(file);
    if (const auto* recipe = std::get_if<Recipe>(&golden)) {
      const Case c = parse_case(recipe->case_line);
      if (c.family != kDraftFamily) {  // the candidate runs the case itself
        jobs.push_back({.item = std::make_shared<const Item>(item_of(c, options))});
        return jobs;
      }
    }
    const Fixture fixture = std::holds_alternative<Recipe>(golden)
                                ? rebuild_draft(std::get<Recipe>(golden)).fixture
                                : std::get<Fixture>(golden);
    for (Job& job : jobs_of(fixture, options, settled)) jobs.push_back(std::move(job));
  } catch (const FixtureError& e) {
    jobs.front().unusable = e.what();
  } catch (const std::invalid_argument& e) {  // of a recipe's line
    jobs.front().unusable = e.what();
  }
  return jobs;
}

CaseRun run_job(const Job& job, Worker& worker, const VerifyOptions& options) {
  const RunSettings settings{.schedule = options.schedule, .schedules = options.schedules, .count = options.count, .count_only = options.count_only, .timeout_scale = options.timeout_scale};
  if (job.c) return run_case(worker, item_of(*job.c, options), settings);
  if (job.item) return run_case(worker, *job.item, settings);
  CaseRun run{check_fixture(*job.fixture), {}};
  run.result.line = fmt::format("fixture {} reference", job.fixture->string());
  if (run.result.status == Status::passed && !job.unusable.empty()) {
    run.result.status = Status::failed;
    run.result.message = job.unusable;
  }
  return run;
}

void check_schedule(const std::string& name, const CandidateInfo& info) {
  std::string known;
  for (const ScheduleInfo& s : info.schedules) {
    if (s.name == name) return;
    known += (known.empty() ? "" : ", ") + s.name;
  }
  if (!name.empty())
    throw std::invalid_argument(fmt::format("schedule \"{}\" is unknown; {} has {}", name, info.target, known.empty() ? "none" : known));
}

// The library is sound, but its device is not on this machine: nothing ran, and the result says so.
RunResult skipped(const VerifyOptions& options, const std::string& reason) {
  RunResult result;
  result.subject = "candidate";
  result.target = "none";
  result.candidate = options.candidate.string();
  result.notes.push_back("nothing ran: " + reason);
  const auto skip = [&](const std::string& line, const std::string& operation, std::string_view dtype) {
    CaseResult c;
    c.line = line;
    c.operation = operation;
    c.dtype = dtype;
    c.status = Status::skipped;
    c.message = reason;
    result.cases.push_back(std::move(c));
  };
  for (const auto& file : options.fixtures) skip("fixture " + file.string(), "fixture", "");
  for (const Case& c : options.cases) skip(to_line(c), c.operation(), short_name(c.dtype));
  return result;
}

}  // namespace

Tier tier_from_name(std::string_view name) {
  if (name == "quick") return Tier::quick;
  if (name == "full") return Tier::full;
  if (name == "soak") return Tier::soak;
  throw std::invalid_argument(fmt::format("tier \"{}\"; want quick, full or soak", name));
}

std::vector<Case> list_cases(Tier tier, std::uint64_t soak_seed) {
  std::vector<Case> cases;
  for (const Family& f : families())
    for (Case& c : f.cases(tier)) cases.push_back(std::move(c));
  if (tier == Tier::soak) {
    const Random draw(soak_seed, "soak");
    for (std::size_t i = 0; i < cases.size(); ++i)
      cases[i].seed = (std::uint64_t{draw.words(i)[0]} << 32) | draw.words(i)[1];
  }
  return cases;
}

RunResult verify(const VerifyOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  for (const Case& c : options.cases) family(c.family).check(c);  // a bad line stops the run before it starts

  std::vector<Job> jobs;
  std::vector<CaseRun> settled;  // without running anything
  for (const auto& file : options.fixtures)
    for (Job& job : jobs_of(file, options, settled)) jobs.push_back(std::move(job));
  for (const Case& c : options.cases) jobs.push_back({.c = &c});

  const WorkerOptions worker_options{.worker = options.worker, .candidate = options.candidate};
  std::vector<Worker> workers;
  try {
    workers.emplace_back(worker_options);  // throws here if the candidate cannot be used at all
  } catch (const NoDevice& e) {
    return skipped(options, e.what());
  }
  check_schedule(options.schedule, workers[0].info());
  if ((options.count || options.count_only) && !workers[0].info().can_count)
    throw std::invalid_argument(fmt::format("{} cannot count what its kernels do; want a target that emulates a GPU",
                                            workers[0].info().target));
  const std::size_t cores = std::max(1u, std::thread::hardware_concurrency());
  const std::size_t threads = std::min(options.jobs > 0 ? static_cast<std::size_t>(options.jobs) : cores,
                                       std::max<std::size_t>(1, jobs.size()));
  while (workers.size() < threads) workers.emplace_back(worker_options);

  std::vector<CaseRun> runs(jobs.size());
  std::atomic<std::size_t> next{0}, done{0};
  std::atomic<bool> stop{false};
  std::mutex lock;
  std::exception_ptr failure;
  const auto work = [&](Worker& worker) {
    for (std::size_t i = next++; i < jobs.size() && !stop; i = next++) {
      try {
        runs[i] = run_job(jobs[i], worker, options);
        const std::lock_guard guard(lock);
        ++done;
        if (options.progress) options.progress(runs[i].result, done, jobs.size());
      } catch (...) {
        const std::lock_guard guard(lock);
        if (!failure) failure = std::current_exception();
        stop = true;
      }
    }
  };
  std::vector<std::thread> pool;
  for (std::size_t i = 1; i < threads; ++i) pool.emplace_back(work, std::ref(workers[i]));
  work(workers[0]);
  for (std::thread& t : pool) t.join();
  if (failure) std::rethrow_exception(failure);

  RunResult result;
  result.subject = "candidate";
  result.target = workers[0].info().target;
  result.candidate = fmt::format("{} ({})", workers[0].info().name, options.candidate.string());
  if (result.target.starts_with("cpu:"))
    result.notes.push_back("run on a CPU: says nothing about hardware timing, occupancy or the bits of a GPU's sums");
  runs.insert(runs.end(), std::make_move_iterator(settled.begin()), std::make_move_iterator(settled.end()));
  TrustReport trust = judge_trust(runs);
  for (CaseRun& r : runs) result.cases.push_back(std::move(r.result));
  for (CaseResult& pool_result : trust.failed_pools) result.cases.push_back(std::move(pool_result));
  result.trust = std::move(trust.trust);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace assay::harness
