#include <algorithm>
#include <memory>
#include <numeric>
#include <thread>

#include "cuda/simt/exec/device_memory.h"
#include "cuda/simt/exec/launch_state.h"
#include "cuda/simt/exec/report.h"
#include "cuda/simt/exec/thread_pool.h"
#include "cuda/simt/exec/worker.h"

namespace simt {
namespace {

std::string text(const dim3& d) {
  return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

// CUDA C++ Programming Guide, Technical Specifications per Compute Capability.
void check_limits(const LaunchConfig& c, const LaunchLimits& limits) {
  const auto refuse = [&c](const std::string& what) { throw Error("launch at " + describe(c.site) + ": " + what); };
  const std::uint64_t threads = std::uint64_t{c.block.x} * c.block.y * c.block.z;
  if (threads == 0 || threads > 1024) {
    refuse("block = " + text(c.block) + " has " + std::to_string(threads) + " threads; want 1 to 1024");
  }
  if (c.block.z > 64) refuse("block.z = " + std::to_string(c.block.z) + "; want at most 64");
  if (c.grid.x == 0 || c.grid.y == 0 || c.grid.z == 0) refuse("grid = " + text(c.grid) + " is empty");
  if (c.grid.x > 0x7FFFFFFFu || c.grid.y > 65535 || c.grid.z > 65535) {
    refuse("grid = " + text(c.grid) + "; want at most (2147483647,65535,65535)");
  }
  if (c.dynamic_shared > limits.shared_per_block) {
    refuse("smem = " + std::to_string(c.dynamic_shared) + " bytes of dynamic shared memory; sm_" +
           std::to_string(limits.sm) + " has " + std::to_string(limits.shared_per_block));
  }
  const std::uint64_t blocks = std::uint64_t{c.grid.x} * c.grid.y * c.grid.z;
  if (blocks > 0xFFFFFFFFu) refuse("grid = " + text(c.grid) + " has more than 2^32 blocks, too many for a CPU");
  if (c.group == 0 || c.group * threads > 1u << 16) {
    refuse("group = " + std::to_string(c.group) + " blocks of " + std::to_string(threads) +
           " threads; want at least 1, and at most 65536 threads resident together");
  }
}

// The order in which groups of blocks start.
void order_groups(std::vector<unsigned>& order, unsigned groups, const Schedule& schedule, std::uint64_t seed) {
  order.resize(groups);
  std::iota(order.begin(), order.end(), 0u);
  if (schedule.order == Order::kDescending) std::ranges::reverse(order);
  if (schedule.order != Order::kRandom) return;
  Random random;
  random.seed(seed, 0);
  for (unsigned i = groups; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
}

// Waking a helper costs as much as running some thousand threads: small launches stay on the calling thread.
unsigned workers_for(const LaunchState& launch, int wanted) {
  constexpr std::uint64_t kThreadsPerWorker = 512;
  unsigned available = wanted > 0 ? static_cast<unsigned>(wanted) : std::max(1u, std::thread::hardware_concurrency());
  available = std::min({available, launch.groups, kMaxWorkers});
#if defined(SIMT_TSAN)
  available = std::min(available, kMaxTsanWorkers);
#endif
  if (wanted > 0) return available;
  const dim3& block = launch.config.block;
  const std::uint64_t threads = std::uint64_t{launch.blocks} * block.x * block.y * block.z;
  return static_cast<unsigned>(std::clamp<std::uint64_t>(threads / kThreadsPerWorker, 1, available));
}

Counters counters_of_last_launch, counters_of_all;

}  // namespace

void set_counting(bool on) {
  settings().counting = on;
  if (on) counters_of_all = {};
}
const Counters& last_counters() { return counters_of_last_launch; }
const Counters& sum_of_counters() { return counters_of_all; }

void run_grid(const LaunchConfig& config, void (*invoke)(void*), void* context) {
  if (current_thread != nullptr) fail("launch: a kernel cannot launch another", config.site);
  static std::mutex one_at_a_time;
  static ThreadPool pool;
  static std::vector<unsigned> group_order;
  const std::lock_guard lock(one_at_a_time);

  const Settings& set = settings();
  check_limits(config, set.limits);
  const auto launch = std::make_unique<LaunchState>();
  launch->config = config;
  launch->schedule = set.schedule;
  launch->seed = set.seed;
  launch->shared_limit = set.limits.shared_per_block;
  launch->invoke = invoke;
  launch->context = context;
  launch->blocks = config.grid.x * config.grid.y * config.grid.z;
  launch->groups = (launch->blocks + config.group - 1) / config.group;
  order_groups(group_order, launch->groups, set.schedule, set.seed);
  launch->group_order = group_order.data();

  hostile_arithmetic = set.schedule.arithmetic == Arithmetic::kHostile;
  counting_enabled = set.counting;
  hb_release(&launch->config);  // what the caller wrote is visible to every thread of the kernel
  const auto job = [](void* state, unsigned number) {
    Worker::of_this_os_thread().run(*static_cast<LaunchState*>(state), number);
  };
  pool.run(workers_for(*launch, set.workers), job, launch.get());
  hb_acquire(&launch->context);  // and what they wrote to the caller
  hostile_arithmetic = counting_enabled = false;
  if (set.counting) {
    Counters& counters = launch->counters;
    counters.sees_plain_accesses = counting_instrumented;
    counters.blocks = launch->blocks;
    if (launch->blocks > 0)
      counters.balanced_block_bytes = (counters.global_read.bytes + counters.global_write.bytes) / launch->blocks;
    counters_of_last_launch = counters;
    counters_of_all += counters;
  }

  std::string error = launch->error;
  const std::string damage = check_device_memory();
  if (error.empty()) error = damage;
  if (!error.empty()) throw Error(error + "\n  launched at " + describe(config.site));
}

}  // namespace simt
