// What a CUDA thread knows of itself on the CPU, and what kernel-side code may ask of the executor.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "cuda/simt/exec/sanitizer.h"

extern const int warpSize;  // as with nvcc no constant expression

namespace simt {

// A line of kernel source. As a default argument it is the line of the call.
struct Site {
  const char* file = "";
  int line = 0;
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

struct BlockShape {
  uint3 index;  // blockIdx
  dim3 dim;     // blockDim
  dim3 grid;    // gridDim
};

inline constexpr unsigned kObserved = 4;

struct Thread {
  std::uint64_t float_operations;  // so far, of code that is built for counting
  uint3 index;      // threadIdx
  unsigned linear;  // x fastest
  unsigned lane;
  const BlockShape* shape;
#if defined(SIMT_TSAN)
  // For fences, see atomic.cuh: whether it has executed one, and where its last atomics were.
  bool has_fenced;
  unsigned observations;
  void* observed[kObserved];
#endif
};

// The CUDA thread that runs on this operating system thread; null outside kernels. `__thread` because thread_local's
// wrapper function gives UBSan false reports; initial-exec because it is read at every threadIdx.
extern __thread Thread* current_thread __attribute__((tls_model("initial-exec")));
inline Thread& self() { return *current_thread; }

// Ends the launch with simt::Error: message, thread, block and site.
[[noreturn]] void fail(const std::string& message, Site site = {});

// A warp-wide operation: each lane hands in a pointer to its operands, the last lane to arrive runs it for all.
struct Collective {
  const char* name;                                // as the kernel spells it
  void (*run)(void* const* lanes, unsigned mask);  // lanes[i] is valid where bit i of mask is set; may be null
  bool orders_memory;                              // __syncwarp does, a shuffle does not
  bool whole_warp;                                 // PTX's .aligned: all 32 lanes, none exited
};
void collective(const Collective& operation, unsigned mask, void* operands, Site site);

// Block barriers. `threads` < 0: all threads of the block that have not exited.
enum class Reduction { kNone, kCount, kAnd, kOr };
int barrier_sync(int id, int threads, int value, Reduction reduction, Site site);
void barrier_arrive(int id, int threads, Site site);

// Lets others run while this thread waits for memory to change. A launch in which nothing else happens any more ends
// with an error that names `site`.
void spin_yield(Site site = Site::here());

// The block's shared object with this tag; the first thread to ask makes it, poisoned and between red zones.
void* static_shared(const void* tag, std::size_t bytes, std::size_t align, Site site = Site::here());
// The dynamic shared memory of the block, and its piece number `sequence`, which ends at `logical_end` on the device.
void* dynamic_shared();
void* carve_shared(unsigned sequence, std::size_t logical_end, std::size_t bytes, std::size_t align, Site site);
// Byte offset within the block's shared memory; npos when `p` does not point there.
inline constexpr std::size_t kNotShared = ~std::size_t{0};
std::size_t shared_offset(const void* p);

// Launches.
struct LaunchConfig {
  dim3 grid, block;
  std::size_t dynamic_shared;
  unsigned group;  // blocks that are resident together
  Site site;
};
void run_grid(const LaunchConfig& config, void (*invoke)(void*), void* context);

// True while a launch is counted (counters.h); an atomic tells that it happened.
extern bool counting_enabled;
void count_atomic();

// True while a launch runs with hostile arithmetic.
extern bool hostile_arithmetic;

}  // namespace simt
