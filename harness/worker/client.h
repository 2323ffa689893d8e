// The parent's side of a candidate: a worker process that loads the library and runs one call at a time.
//
//   Worker worker({.worker = "build/bin/assay_worker", .candidate = "./libmine.so"});
//   Reply reply = worker.run(call, {.schedule = 0, .seed = 7, .timeout = std::chrono::seconds(10)});
//
// Whatever the candidate does - crash, exit, hang, eat memory, close files, print megabytes - costs one reply: run()
// returns crashed, timeout or out_of_memory, and the next run() starts a fresh process. Several workers may be used
// from several threads, each worker from one thread at a time. The protocol is described in PROTOCOL.md.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/call.h"

namespace assay::harness {

struct WorkerOptions {
  std::filesystem::path worker;     // the assay_worker executable, or any program that speaks the protocol
  std::filesystem::path candidate;  // the shared library
  // Resident memory of the worker: about four times the tensors of a call (shared, host copies before and after,
  // device), and a sanitizer's shadow. Watched, so overshot for some milliseconds.
  std::size_t memory_limit_bytes = std::size_t{8} << 30;  // room for the shadow memory of a sanitized worker
  std::chrono::milliseconds load_timeout = std::chrono::seconds(60);
  std::vector<std::string> environment;  // "NAME=value", in addition to the parent's (wins over it)
};

struct ScheduleInfo {
  std::string name;        // "ascending-late"
  std::string arithmetic;  // "nominal" or "hostile"
};

struct CandidateInfo {
  std::string name;    // "assay 0.1"
  std::string target;  // "cpu:simt", "cuda:NVIDIA H100 ..."
  std::uint32_t abi = 0;
  bool can_count = false;
  std::vector<ScheduleInfo> schedules;  // empty: the target has none
};

// What a candidate promises about its arithmetic for one call (assay_contract, without its struct_size).
struct Contract {
  assay_multiply multiply = ASSAY_MULTIPLY_IEEE;
  assay_accumulate accumulate = ASSAY_ACCUMULATE_FP32;
  assay_softplus softplus = ASSAY_SOFTPLUS_LOG1P;
  assay_functions functions = ASSAY_FUNCTIONS_ACCURATE;
  bool deterministic = false;
  bool flush_denormals = false;
  bool workspace_zeroed = false;
};
std::string to_string(const Contract& contract);  // "ieee, fp32, deterministic"

enum class Outcome {
  completed,      // it ran; the findings (fences, changed, unwritten) may still condemn it
  not_supported,  // it refused the call; message = its reason
  error,          // one of its functions returned an error; message names function and text
  crashed,        // the process died, or answered with nonsense
  timeout,        // killed: no answer within RunRequest::timeout
  out_of_memory   // killed: above memory_limit_bytes; or it asks for more than that
};
const char* to_string(Outcome outcome);

// Bytes changed that belong to no element.
struct FenceViolation {
  enum class Where { before, after, gap };
  std::string tensor;  // "workspace" for the workspace
  Where where = Where::after;
  std::int64_t offset = 0;  // first changed byte, in bytes: from the tensor's first byte (before: negative; gap), or
                            // from its end (after: 0 = the very next byte)
  std::int64_t bytes = 0;   // changed bytes there
};
std::string to_string(const FenceViolation& violation);  // "output.y: 4 bytes changed, the first 0 bytes past its end"

// An `in` tensor, or a `saved` one that was handed in, whose elements differ after the run.
struct ChangedInput {
  std::string tensor;
  std::int64_t first = 0;  // row-major index of the first changed element
  std::int64_t count = 0;
};

// Elements of an `out` tensor (or of a tap that was filled in part) that the run did not write.
//
// Each output is poisoned before the run: floating elements with a signalling NaN, which IEEE arithmetic never returns
// (it quiets them), integers with 0xA5.. (second pattern: 0x5A..). If any element still holds its poison afterwards,
// the worker runs the call again with the other pattern; only elements that hold the poison both times are unwritten.
// So a value that happens to equal one pattern is never reported.
struct Unwritten {
  std::string tensor;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

struct RunRequest {
  int schedule = 0;        // index into CandidateInfo::schedules; ignored if there are none
  std::uint64_t seed = 0;  // of the schedule
  std::chrono::milliseconds timeout = std::chrono::seconds(60);  // of time in which the calling process runs
  int poison = 0;  // 0 or 1: which pattern. Results that depend on it come from memory that was never written
  bool count = false;  // ask for Reply::counters; std::invalid_argument unless CandidateInfo::can_count
};

struct Reply {
  Outcome outcome = Outcome::crashed;
  std::string message;  // not completed: what happened, naming operation, stage, signal, and the last lines printed
  Contract contract;
  std::string variant;              // the kernel variant that ran
  std::vector<HostTensor> outputs;  // out, inout, written saved, filled taps, in the call's order; bytes compact
  std::vector<FenceViolation> fences;
  std::vector<ChangedInput> changed;
  std::vector<Unwritten> unwritten;
  std::map<std::string, std::int64_t> counters;  // what the run moved and computed, where RunRequest::count asks
  double seconds = 0;   // run and synchronize, by the worker's clock
  std::string printed;  // stdout and stderr of the candidate during this call, its middle cut out above 32 KiB

  const HostTensor* find(std::string_view tensor) const;  // among outputs; null if it is not there
};

// The library loads, but says that its device is not on this machine. what() holds its reason.
struct NoDevice : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Worker {
 public:
  // Starts the process and loads the candidate. Throws NoDevice, or std::runtime_error that names the file, what is
  // wrong with it and what to do: missing worker, missing file, not a shared library, missing symbol, null table or
  // function, other ABI version, struct too small, dies or hangs while loading.
  explicit Worker(WorkerOptions options);
  ~Worker();  // ends the process
  Worker(Worker&&) noexcept;
  Worker& operator=(Worker&&) noexcept;

  const CandidateInfo& info() const;

  // Runs one call. Tensors of role in and inout carry their bytes; out, inout's result, saved and tap come back in
  // Reply::outputs. A saved tensor of shape {} is written by this call (a forward): the candidate says how large it is.
  // One of shape {n} is read (a backward), and carries its bytes.
  // Throws std::invalid_argument if the call itself is malformed (bytes that do not fill a shape, outputs that overlap
  // themselves, a negative stride, a schedule that does not exist). Never throws for what a candidate does.
  Reply run(const Call& call, const RunRequest& request = {});

  std::int64_t restarts() const;  // processes started after the first

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace assay::harness
