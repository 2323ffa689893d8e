#include "cuda/simt/exec/worker.h"

#include <exception>
#include <thread>

#include "cuda/simt/exec/barrier.h"
#include "cuda/simt/exec/collective.h"
#include "cuda/simt/executor.h"

namespace simt {

__thread Thread* current_thread = nullptr;

Worker::Worker() : main_(this_thread_context()) {}
Worker::~Worker() {
  for (auto& fiber : pool_) release_stack(fiber->context);
}

Worker& Worker::of_this_os_thread() {
  static thread_local Worker worker;
  return worker;
}

// ---- life of a group of blocks

void Worker::run(LaunchState& launch, unsigned number) {
  launch_ = &launch;
  number_ = number;
#if defined(SIMT_TSAN)
  main_.tsan_fiber = __tsan_get_current_fiber();
#endif
  launch.working.fetch_add(1);
  while (!launch.failed.load(std::memory_order_relaxed)) {
    const unsigned next = launch.next_group.fetch_add(1);
    if (next >= launch.groups) break;
    run_group(launch.group_order[next]);
  }
  launch.working.fetch_sub(1);
  launch.epoch.fetch_add(1);
}

// All that the threads of a failed launch did happened before it ended; those still waiting can no longer say so.
void Worker::abandon_threads() {
#if defined(SIMT_TSAN)
  for (Fiber* fiber : resident_) {
    __tsan_switch_to_fiber(fiber->context.tsan_fiber, __tsan_switch_to_fiber_no_sync);
    hb_release(&launch_->context);
  }
  __tsan_switch_to_fiber(main_.tsan_fiber, __tsan_switch_to_fiber_no_sync);
#endif
}

void Worker::grow_pool(unsigned threads) {
#if defined(SIMT_TSAN)
  if (threads > kMaxTsanFibers) {
    throw Error("ThreadSanitizer can hold no more than " + std::to_string(kMaxTsanFibers) +
                " resident threads a worker");
  }
#endif
  while (pool_.size() < threads) {
    auto fiber = std::make_unique<Fiber>();
    fiber->context = make_stack(static_cast<unsigned>(pool_.size()));
    fiber->worker = this;
    pool_.push_back(std::move(fiber));
  }
}

void Worker::run_group(unsigned group) {
  const LaunchConfig& config = launch_->config;
  const unsigned first = group * config.group;
  resident_blocks_ = std::min(config.group, launch_->blocks - first);
  const unsigned threads = config.block.x * config.block.y * config.block.z;
  const unsigned total = threads * resident_blocks_;
  while (blocks_.size() < resident_blocks_) blocks_.push_back(std::make_unique<Block>());
  resident_.resize(total);
  random_.seed(launch_->seed, group);
  queue_.reset(launch_->schedule.order, total, (threads + 31) / 32 * resident_blocks_);
  live_ = total;
  spins_ = 0;
  failed_ = quiet_ = false;
#if defined(SIMT_TSAN)
  // Successive blocks run on different fibers where there are enough: TSan cannot see a race of a fiber with itself.
  pool_offset_ = pool_offset_ == 0 && 2 * total <= kMaxTsanFibers ? total : 0;
#endif
  grow_pool(pool_offset_ + total);
  for (unsigned i = 0; i < resident_blocks_; ++i) start_block(*blocks_[i], i, first + i);
  hb_release(&launch_->config);  // blocks and shared memory that were made just now
  if (launch_->schedule.order == Order::kDescending) {
    for (unsigned i = total; i-- > 0;) wake(*resident_[i]);
  } else {
    for (Fiber* fiber : resident_) wake(*fiber);
  }
  Fiber* start = next();
  current_thread = start;
  switch_context(main_, start->context);
  current_thread = nullptr;
  if (failed_) {
    abandon_threads();
    return;
  }
  if (counting_enabled) {
    const std::lock_guard lock(launch_->error_mutex);
    for (unsigned i = 0; i < resident_blocks_; ++i) account_block(*blocks_[i], launch_->counters);
  } else {
    check_shared();
  }
}

inline void Worker::start_thread(Block& block, unsigned linear, uint3 index, Fiber& fiber) {
  block.fibers[linear] = &fiber;
  fiber.float_operations = 0;
  fiber.index = index;
  fiber.linear = linear;
  fiber.lane = linear % 32;
  fiber.shape = &block;
  fiber.block = &block;
  fiber.warp = &block.warps[linear / 32];
  fiber.warp->live |= 1u << fiber.lane;
  fiber.warp->lanes[fiber.lane] = &fiber;
  fiber.done = false;
#if defined(SIMT_TSAN)
  fiber.has_fenced = false;
  fiber.observations = 0;
  for (void*& observed : fiber.observed) observed = nullptr;
#endif
  fiber.waits_for = "start";
  fiber.waits_at = {};
  if (fiber.copies != nullptr) fiber.copies->clear();
  if (counting_enabled) fiber.log = std::make_unique<ThreadLog>();
  prepare(fiber.context, linear, thread_main);
}

void Worker::start_block(Block& block, unsigned rank, unsigned linear) {
  const LaunchConfig& config = launch_->config;
  block.dim = config.block;
  block.grid = config.grid;
  block.index = {linear % config.grid.x, linear / config.grid.x % config.grid.y,
                 linear / config.grid.x / config.grid.y};
  block.threads = block.live = config.block.x * config.block.y * config.block.z;
  block.fibers = resident_.data() + rank * block.threads;
  block.warps.resize((block.threads + 31) / 32);
  for (Warp& warp : block.warps) {
    warp.live = warp.ready = 0;
    warp.queued = false;
    warp.open_rooms = 0;
  }
  for (Barrier& barrier : block.barriers) {
    if (barrier.arrived != 0) barrier.waiting.fill(0);  // left by a launch that failed
    barrier.arrived = 0;
  }
  block.open_barriers = block.barriers_completed = 0;
  block.shared.reset(config.dynamic_shared, launch_->shared_limit, counting_enabled);
  uint3 index{0, 0, 0};
  for (unsigned i = 0; i < block.threads; ++i) {
    start_thread(block, i, index, *pool_[pool_offset_ + rank * block.threads + i]);
    if (++index.x < block.dim.x) continue;
    index.x = 0;
    if (++index.y < block.dim.y) continue;
    index.y = 0;
    ++index.z;
  }
}

void Worker::thread_main() {
  context_entered();
  Fiber& fiber = current_fiber();
  Worker& worker = *fiber.worker;
  hb_acquire(&worker.launch_->config);
  try {
    worker.launch_->invoke(worker.launch_->context);
  } catch (const std::exception& exception) {
    worker.fail_for_exception(exception.what());
  }
  if (fiber.copies != nullptr && !fiber.copies->copies.empty()) {
    worker.fail_for_forgotten_copy(fiber.copies->copies.front().site);
  }
  hb_release(&worker.launch_->context);
  worker.thread_exits(fiber);
  __builtin_unreachable();
}

void Worker::thread_exits(Fiber& fiber) {
  fiber.done = true;
  --live_;
  --fiber.block->live;
  fiber.warp->live &= ~(1u << fiber.lane);
  moved();
  lane_exited(*this, *fiber.warp, fiber.lane);
  thread_left_barriers(*this, *fiber.block);
  Fiber* following = next();
  if (following == nullptr) {
    switch_context(fiber.context, main_, true);
  } else {
    current_thread = following;
    switch_context(fiber.context, following->context, true);
  }
}

void Worker::fail_for_exception(const char* what) { fail(std::string("a C++ exception leaves the kernel: ") + what); }

void Worker::fail_for_forgotten_copy(Site site) {
  fail("the thread exits with a cp.async that it never waited for, issued at " + describe(site));
}

// ---- switching

// The next thread to run; null when all have exited or the launch has failed (a deadlock included).
Fiber* Worker::next() {
  if (!queue_.empty()) {
    Fiber* fiber = queue_.pop(random_);
    // Its stack is cold when its turn comes: threads outnumber cache and TLB entries.
    if (const Fiber* ahead = queue_.front(); ahead != nullptr) __builtin_prefetch(ahead->context.stack_pointer, 1);
    return fiber;
  }
  if (live_ > 0 && !failed_) report_deadlock();
  return nullptr;
}

void Worker::suspend(const char* reason, Site site, unsigned mask) {
  moved();
  give_way(reason, site, mask);
}

void Worker::give_way(const char* reason, Site site, unsigned mask) {
  Fiber& fiber = current_fiber();
  fiber.waits_for = reason;
  fiber.waits_at = site;
  fiber.waits_mask = mask;
  Fiber* following = next();
  if (following == &fiber) return;
  current_thread = following;
  switch_context(fiber.context, following != nullptr ? following->context : main_);
}

void Worker::fail(const std::string& message) {
  failed_ = true;
  launch_failed(*launch_, message + "\n  in " + describe(current_fiber()));
  switch_context(current_fiber().context, main_, true);
  __builtin_unreachable();
}

// Something other than spinning has happened.
void Worker::moved() {
  spins_ = 0;
  if (!quiet_) return;
  quiet_ = false;
  launch_->quiet[number_].rounds.store(0);
  launch_->epoch.fetch_add(1);
}

// A round is this many turns for every thread that spins here: far more than a bounded back-off loop takes.
constexpr unsigned kTurnsPerRound = 1024;
constexpr unsigned kQuietRounds = 4;

void Worker::spin(Site site) {
  queue_.push(&current_fiber());
  queue_.cool();
  if (++spins_ % 64 == 0) std::this_thread::yield();  // what is waited for may happen on another worker
  if (spins_ >= kTurnsPerRound * live_) {
    spins_ = 0;
    if (nothing_moves()) fail("no progress: every running thread spins, here at " + describe(site));
  }
  give_way("spin_yield", site, ~0u);
}

// Called after each round of nothing but spinning.
bool Worker::nothing_moves() {
  quiet_ = true;
  const unsigned epoch = launch_->epoch.load();
  LaunchState::Quiet& mine = launch_->quiet[number_];
  const bool same = mine.epoch.load() == epoch;
  mine.rounds.store(same ? mine.rounds.load() + 1 : 1);
  mine.epoch.store(epoch);
  unsigned stuck = 0;
  for (const LaunchState::Quiet& quiet : launch_->quiet) {
    if (quiet.epoch.load() == epoch && quiet.rounds.load() >= kQuietRounds) ++stuck;
  }
  return stuck >= launch_->working.load() && launch_->epoch.load() == epoch;
}

// ---- reports

void Worker::check_shared() {
  for (unsigned i = 0; i < resident_blocks_; ++i) {
    const Block& block = *blocks_[i];
    const std::string damage = block.shared.damage();
    if (damage.empty()) continue;
    launch_failed(*launch_, damage + "\n  by " + describe(block));
    return;
  }
}

void Worker::report_deadlock() {
  std::string text = "deadlock: no thread can run";
  for (unsigned i = 0; i < resident_blocks_; ++i) text += describe_waiting(*blocks_[i]);
  failed_ = true;
  launch_failed(*launch_, text);
}

void launch_failed(LaunchState& launch, const std::string& message) {
  const std::lock_guard lock(launch.error_mutex);
  if (!launch.failed.exchange(true)) launch.error = message;
}

}  // namespace simt
