// What the workers of one launch share.
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/simt/counters.h"
#include "cuda/simt/exec/schedule.h"
#include "cuda/simt/exec/thread.h"

namespace simt {

inline constexpr unsigned kMaxWorkers = 256;

struct LaunchState {
  LaunchConfig config;
  Schedule schedule;
  std::uint64_t seed;
  std::size_t shared_limit;
  void (*invoke)(void*);
  void* context;
  unsigned blocks, groups;
  const unsigned* group_order;  // [groups]

  std::atomic<unsigned> next_group{0};
  std::atomic<bool> failed{false};
  std::mutex error_mutex;  // guards both
  std::string error;
  Counters counters;

  // Livelock without a clock: it is one when every worker that still has a block has gone through several rounds of
  // nothing but spinning since the last time that anything else happened anywhere.
  std::atomic<unsigned> epoch{0};    // grows when a worker that was spinning does something else, starts or ends
  std::atomic<unsigned> working{0};  // workers with a block
  struct Quiet {
    std::atomic<unsigned> epoch{~0u}, rounds{0};
  };
  std::array<Quiet, kMaxWorkers> quiet;
};

// The first failure of a launch is the one that is thrown.
void launch_failed(LaunchState& launch, const std::string& message);

}  // namespace simt
