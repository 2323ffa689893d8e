// Counting mode: what a launch moves and computes, as a GPU would account for it. Host only.
//
// Counts are exact functions of the kernel and its inputs, whatever the schedule, the seed and the workers. Memory that
// kernels touch with plain loads and stores, and scalar arithmetic, are seen only in code built with the target
// assay_simt_counting; everything that goes through the executor is counted in any build. Flags polled with
// load_acquire are not counted.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace simt {

// Traffic of one direction in one memory. A warp instruction is the set of accesses that the lanes of a warp make from
// one place in the code, at the same count of executions since the warp last synchronised.
struct Traffic {
  std::uint64_t instructions = 0;  // of warps
  std::uint64_t bytes = 0;         // distinct bytes of each warp instruction
  std::uint64_t units = 0;         // global: 32-byte sectors; shared: wavefronts (one bank delivers 4 bytes in each)
  std::uint64_t ideal_units = 0;   // the fewest that these bytes, or accesses of this width, could need
};

enum class TensorType { kBf16, kF16, kTf32, kE4m3, kE5m2, kS8, kU8, kCount };

struct Counters {
  Traffic global_read, global_write, shared_read, shared_write;
  std::array<std::uint64_t, static_cast<std::size_t>(TensorType::kCount)> tensor_operations{};  // 2 M N K an mma
  // Scalar arithmetic of one thread, of any width: +, -, *, /, sqrt one each, a fused multiply-add two. Those in the
  // code that was compiled for counting: a GPU's compiler contracts, merges and repeats as it sees fit.
  std::uint64_t float_operations = 0;
  std::uint64_t special_functions = 0;  // exp, log, rsqrt, ... of one thread
  std::uint64_t atomics = 0;            // of one thread
  std::uint64_t barriers = 0;           // of a block
  std::uint64_t warp_operations = 0;    // shuffles, votes, warp barriers, matrix loads and products
  // What the launch cannot spread further. The heaviest block: its global traffic, read and written, and its arithmetic
  // (scalar, of tensor cores, special functions, atomics). The busiest thread: its accesses to memory, scalar
  // operations, special functions, atomics and synchronisations, one after another.
  std::uint64_t longest_block_bytes = 0, longest_block_operations = 0, longest_thread_steps = 0;
  // Blocks launched; and what longest_block_bytes were if those of each launch had equal shares.
  std::uint64_t blocks = 0, balanced_block_bytes = 0;
  bool sees_plain_accesses = false;  // false: the kernel was not built for counting

  std::uint64_t bank_conflicts() const {
    return shared_read.units - shared_read.ideal_units + shared_write.units - shared_write.ideal_units;
  }
};

// As if one launch had followed the other: everything adds up, the longest chains, too.
Counters& operator+=(Counters& a, const Counters& b);

// Every counter with its name, for reports: "global_read.bytes", "tensor_operations.bf16", "bank_conflicts", ...
// Without those that a kernel hides which was not built for counting.
std::vector<std::pair<std::string, std::uint64_t>> named(const Counters& counters);

// While on, every launch is counted, and shared memory is laid out as on the device: without red zones.
void set_counting(bool on);
// Of the last launch that was counted, and of all since counting was last turned on.
const Counters& last_counters();
const Counters& sum_of_counters();

}  // namespace simt
