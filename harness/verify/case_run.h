// One case on one worker: all its schedules, determinism, the gates, and what it contributes to trust.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "harness/cases/family.h"
#include "harness/core/judge.h"
#include "harness/core/result.h"
#include "harness/worker/client.h"

namespace assay::harness {

// What is to be run: a case, or one operation of a fixture.
struct Item {
  std::string line;
  std::string operation;  // "rms_norm.backward"
  DType dtype = DType::float32;
  const Family* family = nullptr;
  std::vector<Call> calls;  // steps; the last is judged
  bool exact = false;       // fill `integer`
  std::uint64_t seed = 0;
  std::vector<HostTensor> recorded;  // of a fixture: the outputs must also agree with these
  std::string repro;
  bool may_refuse = true;  // NOT_SUPPORTED is a legitimate answer
};

struct RunSettings {
  std::string schedule;     // the name of the only one to run; empty: all
  int schedules = 0;        // 0: all the target has
  bool count = false;       // run a case that passes once more, counted
  bool count_only = false;  // that run alone: SKIPPED, as nothing is judged
  double timeout_scale = 1;
};

// What one compared tensor of one case says about trust.
struct Evidence {
  std::string tensor;
  bool tells_apart = false;        // enough distinct, non-zero expected values
  bool planted_unnoticed = false;  // an error of 4 limits in one random element went unreported
  bool matched_is_off = false;     // the matched reference errs by more than 10 %
  double headroom = 0;
  Pool pool;  // of small tensors
};

struct CaseRun {
  CaseResult result;
  std::vector<Evidence> evidence;
};

CaseRun run_case(Worker& worker, const Item& item, const RunSettings& settings);

}  // namespace assay::harness
