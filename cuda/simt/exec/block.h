// A resident block: its threads, warps, barriers and shared memory.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/simt/exec/async_copy.h"
#include "cuda/simt/exec/context.h"
#include "cuda/simt/exec/counting.h"
#include "cuda/simt/exec/shared_arena.h"
#include "cuda/simt/exec/thread.h"

namespace simt {

struct Block;
struct Warp;
class Worker;

// One CUDA thread. Reused by later blocks.
struct Fiber : Thread {
  Context context;
  Worker* worker = nullptr;
  Block* block = nullptr;
  Warp* warp = nullptr;
  bool done = true;
  // What it waits for, for the deadlock report.
  const char* waits_for = "";
  Site waits_at;
  unsigned waits_mask = 0;
  // Made when first needed: a fiber is read and written at every switch, so it stays small.
  std::unique_ptr<CopyQueue> copies;
  std::unique_ptr<ThreadLog> log;
};

// A collective that some of its lanes have reached.
struct Room {
  const Collective* operation;
  unsigned mask, arrived;
  Site site;
  std::uint64_t* token;  // what its lanes do before happens before what they do after it (TSan)
};

struct Warp {
  unsigned live = 0;   // lanes that exist and have not exited
  unsigned ready = 0;  // lanes in the run queue (skew order)
  bool queued = false;
  int open_rooms = 0;
  unsigned opened = 0;  // rooms so far: each takes another token, as its lanes may still wake when the next one fills
  std::array<Room, 32> rooms;
  std::array<std::uint64_t, 64> tokens;
  std::array<Fiber*, 32> lanes;
  std::array<void*, 32> operands;  // of the collective that the lane has reached
};

struct Barrier {
  int expected = 0;  // threads, or -1 for all that have not exited
  int arrived = 0;
  int value = 0, result = 0;
  Reduction reduction = Reduction::kNone;
  Site site;
  std::array<std::uint64_t, 16> waiting;  // bit for each thread; none between phases
  unsigned phase = 0;
  std::array<std::uint64_t, 2> tokens;  // of even and odd phases: threads of one may still wake in the next (TSan)
  void* token() { return &tokens[phase % 2]; }
};

inline constexpr int kBarriers = 16;

struct Block : BlockShape {
  unsigned threads = 0;
  unsigned live = 0;
  unsigned barriers_completed = 0;
  unsigned open_barriers = 0;  // bit for each that some thread has reached
  Fiber** fibers = nullptr;    // [threads]
  std::vector<Warp> warps;
  std::array<Barrier, kBarriers> barriers;
  SharedArena shared;
};

}  // namespace simt
