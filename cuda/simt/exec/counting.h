// The counting of one launch: each thread keeps a log, each block is accounted for when it ends.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/simt/counters.h"
#include "cuda/simt/exec/thread.h"

namespace simt {

extern bool counting_instrumented;  // the program has kernels built for counting

struct Access {
  std::uint64_t place;  // in the code: a hash of the return addresses
  const void* address;
  std::uint32_t bytes;
  std::uint32_t segment;  // how often the thread has synchronised before
  bool write;
};

// What one thread did.
struct ThreadLog {
  std::vector<Access> accesses;
  std::uint64_t call_path = 0;            // hash of the return addresses of the functions that the thread is in
  std::vector<std::uint64_t> call_stack;  // the hashes of its callers
  std::uint32_t segment = 0;
  std::uint64_t special_functions = 0, atomics = 0, warp_operations = 0;
  std::array<std::uint64_t, static_cast<std::size_t>(TensorType::kCount)> tensor_operations{};
  void clear();
};

// Called on the thread that acts; nothing happens unless counting is enabled.
void log_access(std::uint64_t place, const void* address, std::size_t bytes, bool write);
std::uint64_t place_of(Site site);
ThreadLog* current_log();  // null when nothing is to be counted

struct Block;
// Adds the block's logs to `total`, and clears them.
void account_block(Block& block, Counters& total);

}  // namespace simt
