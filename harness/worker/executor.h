// Runs one request on the candidate: asks, allocates, uploads, runs, downloads, and writes down what it found.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <string>
#include <vector>

#include "harness/worker/guarded_tensor.h"
#include "harness/worker/library.h"
#include "harness/worker/memory_pool.h"
#include "harness/worker/request.h"

namespace assay::harness {

class Executor {
 public:
  Executor(const assay_candidate& candidate, const StageMark& stage)
      : candidate_(candidate), stage_(stage), pool_(candidate) {}

  // Fills `reply`, a frame of type ran. `shared` is the shared file.
  //
  // Nothing on the way catches exceptions: one that a candidate throws through the C interface ends the process by
  // std::terminate, before any unwinding, with the exception's text on stderr.
  void run(Request request, std::byte* shared, protocol::Encoder& reply);

 private:
  const assay_candidate& candidate_;
  const StageMark& stage_;
  MemoryPool pool_;
  std::deque<HostCopies> host_;  // by tensor
};

}  // namespace assay::harness
