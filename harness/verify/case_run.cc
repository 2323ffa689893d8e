#include "harness/verify/case_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>

#include "harness/core/catalogue.h"
#include "harness/core/explain.h"
#include "harness/core/pattern.h"
#include "harness/core/random.h"
#include "harness/verify/expected.h"

namespace assay::harness {
namespace {

constexpr int kIndependentRuns = 5;     // of a candidate that does not promise equal bits
constexpr double kPlantedLimits = 4;    // the error planted to see whether it would be noticed
constexpr double kMatchedError = 0.10;  // above it the matched reference itself says little
constexpr double kCountingSlowdown = 10;  // every access is written down
constexpr double kSecondsPerCase = 30, kSecondsPerMillionElements = 30;

// One execution of all steps.
struct Execution {
  Status status = Status::passed;
  std::string message;
  Call judged;  // the last step, outputs filled in; a backward with the taps that its forward showed
  Contract contract;
  std::string variant;
  std::map<std::string, std::int64_t> counters;  // of the last step
  double seconds = 0;
};

Status status_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::completed:
      return Status::passed;
    case Outcome::not_supported:
      return Status::not_supported;
    case Outcome::error:
      return Status::failed;
    case Outcome::crashed:
    case Outcome::out_of_memory:
      return Status::crashed;
    case Outcome::timeout:
      return Status::timeout;
  }
  return Status::failed;
}

// An element by the catalogue's axes, where the tensor has no more of them.
std::string at(const Call& call, const std::string& tensor, std::int64_t flat) {
  const HostTensor* t = call.find(tensor);
  const TensorSpec* spec = operation(call.op).find(tensor);
  if (!t || !spec) return std::to_string(flat);
  return axis_position(flat, t->shape,
                       spec->axes.size() == t->shape.size() ? spec->axes : std::vector<std::string>());
}

// What the worker found around the tensors: fences, inputs, elements never written.
std::string findings(const Call& call, const Reply& reply) {
  std::string text;
  const auto add = [&](const std::string& line) { text += (text.empty() ? "" : "\n") + line; };
  for (const FenceViolation& f : reply.fences) add(to_string(f) + ": it writes out of bounds");
  for (const ChangedInput& c : reply.changed)
    add(fmt::format("{}: {} elements of this input were changed, the first at {}", c.tensor, c.count,
                    at(call, c.tensor, c.first)));
  for (const Unwritten& u : reply.unwritten)
    add(fmt::format("{}: {} of {} elements were never written, the first at {}", u.tensor, u.count,
                    call.tensor(u.tensor).size(), at(call, u.tensor, u.first)));
  return text;
}

Execution execute(Worker& worker, const Item& item, const RunRequest& request) {
  Execution e;
  std::vector<HostTensor> outputs, shown;
  for (std::size_t step = 0; step < item.calls.size(); ++step) {
    e.judged = item.calls[step];
    link(e.judged, outputs);
    Reply reply = worker.run(e.judged, request);
    e.contract = reply.contract;
    e.variant = reply.variant;
    e.counters = reply.counters;
    e.seconds += reply.seconds;
    e.status = status_of(reply.outcome);
    e.message = reply.message;
    if (e.status == Status::passed) e.message = findings(e.judged, reply);
    if (!e.message.empty()) {
      if (e.status == Status::passed) e.status = Status::failed;
      if (item.calls.size() > 1) e.message = fmt::format("{}: {}", e.judged.op, e.message);
      return e;
    }
    for (HostTensor& t : e.judged.tensors)
      if (t.role == Role::tap) t.bytes.clear();  // unless the candidate shows it
    for (const HostTensor& t : reply.outputs) {
      if (t.role != Role::out && t.role != Role::inout && t.role != Role::tap) continue;
      HostTensor& judged = e.judged.tensor(t.name);
      if (t.role == Role::inout) judged.before = std::move(judged.bytes);
      judged.bytes = t.bytes;
    }
    outputs.insert(outputs.end(), std::make_move_iterator(reply.outputs.begin()),
                   std::make_move_iterator(reply.outputs.end()));
    if (step + 1 == item.calls.size()) break;
    for (HostTensor& t : e.judged.tensors)
      if (t.role == Role::tap && !t.bytes.empty()) shown.push_back(std::move(t));
  }
  if (e.judged.find("saved"))
    for (HostTensor& t : shown) e.judged.tensors.push_back(std::move(t));
  return e;
}

// Of the call's tensors, each read or written once, or both.
std::int64_t compulsory_bytes(const Call& call) {
  std::int64_t bytes = 0;
  for (const HostTensor& t : call.tensors) {
    const std::int64_t once = t.size() * static_cast<std::int64_t>(size_of(t.dtype));
    if (t.role == Role::in || t.role == Role::out) bytes += once;
    if (t.role == Role::inout) bytes += 2 * once;
  }
  return bytes;
}

bool is_output(const HostTensor& t) { return t.role == Role::out || t.role == Role::inout; }

// The first output whose bits differ between two executions of one call, in words; empty if none.
std::string first_difference(const Call& a, const Call& b) {
  for (std::size_t k = 0; k < a.tensors.size(); ++k) {
    const HostTensor &x = a.tensors[k], &y = b.tensors[k];
    if (!is_output(x) || x.bytes == y.bytes) continue;
    std::int64_t first = -1, count = 0;
    const std::size_t size = size_of(x.dtype);
    for (std::int64_t i = 0; i < x.size(); ++i)
      if (!std::equal(&x.bytes[i * size], &x.bytes[i * size] + size, &y.bytes[i * size])) {
        if (first < 0) first = i;
        ++count;
      }
    return fmt::format(
        "{}: {} of {} elements differ between two runs of the same call, the first at {}: {:.9g} and {:.9g}", x.name,
        count, x.size(), axis_position(first, x.shape, {}), x.at(first), y.at(first));
  }
  return "";
}

assay_contract to_abi(const Contract& c) {
  assay_contract a{};
  a.struct_size = sizeof a;
  a.multiply = c.multiply;
  a.accumulate = c.accumulate;
  a.softplus = c.softplus;
  a.functions = c.functions;
  a.deterministic = c.deterministic;
  a.flush_denormals = c.flush_denormals;
  return a;
}

// Whether an error of 4 limits in one random element would be reported.
bool planted_goes_unnoticed(const Expectation& want, const std::vector<double>& got, std::uint64_t seed) {
  if (want.size() == 0) return false;
  const std::int64_t i = Random(seed, "planted " + want.tensor).integer(0, 0, want.size() - 1);
  const double half_ulp = 0.5 * ulp(want.dtype, want.oracle[i]);
  const double error = kPlantedLimits * std::max(want.limit[i], half_ulp);
  const double direction = got[i] < want.oracle[i] ? -1 : 1;
  const double planted = round_to(want.dtype, got[i] + direction * error);
  return element_passes(want, i, planted);
}

// A layer's output against a fixture's, as a whole: both err, the recorded values by what they are off the oracle.
TensorResult judge_recorded_layer(const Expectation& want, const HostTensor& recorded, const std::vector<double>& got) {
  Expectation between = want;
  between.oracle = recorded.to_double();
  for (std::size_t i = 0; i < between.oracle.size(); ++i) {
    between.matched[i] = between.oracle[i] + (want.matched[i] - want.oracle[i]);
    between.freedom[i] = std::hypot(want.freedom[i], between.oracle[i] - want.oracle[i]);
  }
  TensorResult r = judge(between, got);
  r.tensor = want.tensor + " (against the recorded values)";
  return r;
}

// The candidate's output against a fixture's: both may err, each by the limits of its own contract.
TensorResult judge_recorded(const Expectation& want, const Expectation& upstream, const HostTensor& recorded,
                            const std::vector<double>& got) {
  Expectation between = want;
  between.oracle = recorded.to_double();
  for (std::size_t i = 0; i < between.limit.size(); ++i) between.limit[i] += upstream.limit[i];
  between.freedom.assign(between.limit.size(), HUGE_VAL);  // element by element; the relative gate has the oracle
  between.matched = between.oracle;
  TensorResult r = judge(between, got);
  r.tensor = want.tensor + " (against the recorded values)";
  r.rms_ratio = r.max_ratio = 0;
  return r;
}

class Judging {
 public:
  Judging(const Item& item, CaseRun& run)
      : item_(item), run_(run), wanted_(*item.family, item.exact), upstream_(*item.family, item.exact) {}

  // Gates on one execution; the first one, or the first that fails, gives the tensors of the report.
  void judge_execution(const Execution& e, const std::string& schedule) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<TensorResult> tensors;
    bool failed = false;
    const std::vector<Expectation>& wanted = wanted_.of(e.judged, to_abi(e.contract));
    for (std::size_t k = 0; k < wanted.size(); ++k) {
      const Expectation& want = wanted[k];
      const std::vector<double> got = e.judged.tensor(want.tensor).to_double();
      tensors.push_back(judge(want, got));
      failed |= tensors.back().status == Status::failed;
      if (first_) collect(want, got, tensors.back());
      for (const HostTensor& r : item_.recorded)
        if (r.name == want.tensor && want.relative_alone == item_.family->layer) {
          tensors.push_back(want.relative_alone ? judge_recorded_layer(want, r, got)
                                                : judge_recorded(want, by_upstream(e)[k], r, got));
          failed |= tensors.back().status == Status::failed;
        }
    }
    run_.result.reference_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (first_ || (failed && run_.result.status == Status::passed)) run_.result.tensors = tensors;
    first_ = false;
    if (!failed) return;
    std::string message;
    for (const TensorResult& t : tensors)
      if (t.status == Status::failed) message += (message.empty() ? "" : "\n") + explain(t);
    fail(message, schedule);
  }

  // One more execution, `seconds` being what one that is not counted may take.
  void count(Worker& worker, double seconds) {
    RunRequest request;
    request.seed = item_.seed;
    request.count = true;
    request.timeout = std::chrono::milliseconds(static_cast<std::int64_t>(kCountingSlowdown * 1000 * seconds));
    const Execution e = execute(worker, item_, request);
    run_.result.candidate_seconds += e.seconds;
    if (e.status != Status::passed) return fail("counted: " + e.message, "", e.status);
    run_.result.variant = e.variant;
    run_.result.contract = to_string(e.contract);
    run_.result.counters = {e.counters.begin(), e.counters.end()};
    run_.result.counters["compulsory_bytes"] = compulsory_bytes(e.judged);
  }

  void fail(const std::string& message, const std::string& schedule, Status status = Status::failed) {
    if (run_.result.status != Status::passed) return;  // the first failure is the one that is told
    run_.result.status = status;
    run_.result.message = message;
    run_.result.schedule = schedule;
  }

 private:
  void collect(const Expectation& want, const std::vector<double>& got, const TensorResult& result) {
    Evidence e;
    e.tensor = want.label();
    e.tells_apart = tells_apart(want);
    e.planted_unnoticed = !want.relative_alone && planted_goes_unnoticed(want, got, item_.seed);
    e.matched_is_off = !want.exact && !result.noise_dominated && matched_error(want) > kMatchedError;
    e.headroom = result.headroom;
    const bool told = result.status != Status::passed;  // by itself
    if (!told && !want.exact && !result.noise_dominated && is_small(want)) e.pool.add(want, got);
    run_.evidence.push_back(std::move(e));
  }

  const std::vector<Expectation>& by_upstream(const Execution& e) {
    return upstream_.of(e.judged, item_.family->upstream_contract(e.judged));
  }

  const Item& item_;
  CaseRun& run_;
  Expected wanted_, upstream_;  // by the candidate's contract, and by that of the kernels that a fixture was recorded from
  bool first_ = true;
};

std::int64_t elements(const Item& item) {
  std::int64_t count = 0;
  for (const HostTensor& t : item.calls.back().tensors)
    count += static_cast<std::int64_t>(t.bytes.size() / size_of(t.dtype));
  return count;
}

}  // namespace

CaseRun run_case(Worker& worker, const Item& item, const RunSettings& settings) {
  CaseRun run;
  run.result.line = item.line;
  run.result.operation = item.operation;
  run.result.dtype = short_name(item.dtype);
  run.result.repro = item.repro;
  Judging judging(item, run);

  const std::vector<ScheduleInfo>& all = worker.info().schedules;
  const int count = all.empty()               ? 1
                    : settings.schedules == 0 ? static_cast<int>(all.size())
                                              : std::min<int>(settings.schedules, static_cast<int>(all.size()));
  const double seconds = settings.timeout_scale *
                         (kSecondsPerCase + kSecondsPerMillionElements * 1e-6 * static_cast<double>(elements(item)));

  if (settings.count_only) {
    judging.count(worker, seconds);
    if (run.result.status == Status::passed)
      run.result.status = Status::skipped, run.result.message = "counted, not judged";
    return run;
  }

  // One execution per schedule; executions of one arithmetic must agree, so each is judged once.
  struct Group {
    std::string arithmetic, schedule;
    Execution first;
  };
  std::vector<Group> groups;
  for (int s = 0; s < count; ++s) {
    const std::string schedule = all.empty() ? "" : all[s].name, arithmetic = all.empty() ? "" : all[s].arithmetic;
    if (!settings.schedule.empty() && settings.schedule != schedule) continue;
    RunRequest request;
    request.schedule = s;
    request.seed = item.seed;
    request.poison = s % 2;
    request.timeout = std::chrono::milliseconds(static_cast<std::int64_t>(1000 * seconds));
    const int repeats = !all.empty() ? 1 : 2;  // without schedules the same call is simply run twice
    for (int repeat = 0; repeat < repeats; ++repeat) {
      request.poison = (s + repeat) % 2;
      Execution e = execute(worker, item, request);
      run.result.candidate_seconds += e.seconds;
      if (e.status != Status::passed) {
        judging.fail(e.message, schedule, e.status);
        if (e.status == Status::not_supported && !item.may_refuse) run.result.status = Status::failed;
        if (e.status == Status::not_supported || e.status == Status::timeout)
          return run;  // no other schedule will do better
        continue;
      }
      if (run.result.variant.empty()) {
        run.result.variant = e.variant;
        run.result.contract = to_string(e.contract);
      }
      const auto same =
          std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.arithmetic == arithmetic; });
      if (same == groups.end()) {
        judging.judge_execution(e, schedule);
        groups.push_back({arithmetic, schedule, std::move(e)});
        continue;
      }
      const std::string difference = first_difference(same->first.judged, e.judged);
      if (difference.empty()) continue;
      judging.judge_execution(e, schedule);  // a wrong value says more than a difference
      if (e.contract.deterministic)
        judging.fail(
            difference + (all.empty() ? ". Likely: a race, or an order of sums that is not fixed"
                                      : fmt::format(" (schedules {} and {}). Likely: a missing barrier or wait",
                                                    same->schedule, schedule)),
            schedule);
    }
  }
  // A candidate that promises no equal bits is judged on further runs.
  if (run.result.status == Status::passed && !groups.empty() && !groups.front().first.contract.deterministic) {
    RunRequest request;
    request.seed = item.seed;
    request.timeout = std::chrono::milliseconds(static_cast<std::int64_t>(1000 * seconds));
    for (int k = 1; k < kIndependentRuns; ++k) {
      request.seed = item.seed + static_cast<std::uint64_t>(k);
      Execution e = execute(worker, item, request);
      if (e.status != Status::passed)
        judging.fail(e.message, groups.front().schedule, e.status);
      else
        judging.judge_execution(e, groups.front().schedule);
    }
  }
  if (settings.count && run.result.status == Status::passed) judging.count(worker, seconds);
  return run;
}

}  // namespace assay::harness
