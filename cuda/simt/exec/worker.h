// One operating system thread's share of a launch: it takes groups of blocks and runs their threads as fibers, one at a
// time, in the order of the schedule.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/simt/exec/block.h"
#include "cuda/simt/exec/launch_state.h"
#include "cuda/simt/exec/report.h"
#include "cuda/simt/exec/run_queue.h"

namespace simt {

// TSan has room for 8,128 threads and fibers in all and takes milliseconds to make one.
inline constexpr unsigned kMaxTsanWorkers = 2;
inline constexpr unsigned kMaxTsanFibers = 2048;  // a worker

class Worker {
 public:
  Worker();
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  static Worker& of_this_os_thread();
  static Fiber& current_fiber() { return static_cast<Fiber&>(self()); }

  // Runs blocks of the launch until none is left or one has failed.
  void run(LaunchState& launch, unsigned number);

  // ---- called on a fiber
  // Gives up the processor until wake(); the reason goes into the deadlock report.
  void suspend(const char* reason, Site site, unsigned mask = ~0u);
  void wake(Fiber& fiber) { queue_.push(&fiber); }
  void spin(Site site);
  [[noreturn]] void fail(const std::string& message);

  const Schedule& schedule() const { return launch_->schedule; }
  Random& random() { return random_; }

 private:
  void run_group(unsigned group);
  void abandon_threads();
  void start_block(Block& block, unsigned rank, unsigned linear);
  void start_thread(Block& block, unsigned linear, uint3 index, Fiber& fiber);
  void grow_pool(unsigned threads);
  static void thread_main();
  void thread_exits(Fiber& fiber);
  Fiber* next();
  void give_way(const char* reason, Site site, unsigned mask);
  void moved();
  bool nothing_moves();
  void check_shared();
  // Not inlined into the paths that every thread takes: building texts needs large frames.
  [[gnu::noinline]] void report_deadlock();
  [[noreturn, gnu::noinline]] void fail_for_forgotten_copy(Site site);
  [[noreturn, gnu::noinline]] void fail_for_exception(const char* what);

  LaunchState* launch_ = nullptr;
  unsigned number_ = 0;
  Random random_;
  RunQueue queue_;
  Context main_;
  std::vector<std::unique_ptr<Fiber>> pool_;
  std::vector<Fiber*> resident_;  // of all blocks of the group
  std::vector<std::unique_ptr<Block>> blocks_;
  unsigned resident_blocks_ = 0;
  unsigned live_ = 0;         // threads of the group that have not exited
  unsigned pool_offset_ = 0;  // alternates under TSan
  unsigned spins_ = 0;        // in a row, with nothing else happening
  bool quiet_ = false;        // has gone through a round of nothing but spinning
  bool failed_ = false;
};

}  // namespace simt
