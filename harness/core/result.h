// What a run of cases comes to: plain data from which every report is made.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace assay::harness {

// Of a case. NOT_SUPPORTED: the candidate said so and may. SKIPPED: no such device here.
enum class Status { passed, failed, crashed, timeout, not_supported, skipped };
std::string_view name(Status status);  // "PASSED", ...

struct TensorResult {
  std::string tensor;
  Status status = Status::passed;
  std::string gate;  // the gate that decided: "bits", "bound", "relative", "written", "finite"
  std::int64_t elements = 0;
  std::int64_t failing = 0;  // elements beyond their limit
  std::string worst_at;      // "rows=3 width=17"
  double got = 0, wanted = 0, limit = 0;
  double headroom = 0;   // limit / error of the worst element; infinity where the error is 0
  double rms_ratio = 0;  // against the matched reference; 0: not judged by this gate
  double max_ratio = 0;
  bool noise_dominated = false;
  std::string pattern;  // where the failing elements lie, in words; empty when passed
};

struct CaseResult {
  std::string line;       // the case line, or "fixture FILE (operation)"
  std::string operation;  // "rms_norm.backward"
  std::string dtype;      // "bf16"
  Status status = Status::passed;
  std::string variant;   // the kernel variant that ran
  std::string contract;  // as declared, in words
  std::string message;   // empty when passed: what is wrong, for a person
  std::string schedule;  // the schedule on which it failed, where the target has several
  std::string repro;     // the command that repeats it
  std::vector<TensorResult> tensors;
  double candidate_seconds = 0, reference_seconds = 0;
  // Of one more run, where counting was asked for; "compulsory_bytes" among them: of its inputs and outputs, each once.
  std::map<std::string, std::int64_t, std::less<>> counters;
};

// Trust is judged per operation, dtype and tensor over all cases of a run.
enum class Trust { trusted, untrusted, inconclusive };
std::string_view name(Trust trust);  // "TRUSTED", "UNTRUSTED", "INCONCLUSIVE"

struct TrustResult {
  std::string operation, dtype, tensor;
  Trust trust = Trust::trusted;
  std::string reason;         // empty when trusted
  std::int64_t compared = 0;  // cases that compared it
  double min_headroom = 0;
};

struct RunResult {
  std::string subject;             // "candidate" or "reference" (golden check)
  std::string target;              // "cpu:simt", "cuda:NVIDIA H100 80GB HBM3", "cpu:reference"
  std::string candidate;           // name and version, or path
  std::vector<std::string> notes;  // what this run can't show
  std::vector<CaseResult> cases;
  std::vector<TrustResult> trust;
  double seconds = 0;

  std::map<Status, std::int64_t> counts() const;
  // 0 only when nothing is failed, crashed, timed out, untrusted or inconclusive and at least one case ran; else 1.
  int exit_code() const;
};

}  // namespace assay::harness
