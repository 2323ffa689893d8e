// Device memory from the candidate, kept between requests: allocation is slow on a GPU, and small requests come by the
// thousand.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "harness/abi/assay_candidate.h"

namespace assay::harness {

class MemoryPool {
 public:
  explicit MemoryPool(const assay_candidate& candidate) : candidate_(candidate) {}

  // At least `bytes` bytes, 256-byte aligned; null and `error` if the candidate fails or returns misaligned memory.
  void* take(std::size_t bytes, std::string& error);
  // All blocks taken since the last call become free again; what exceeds the keep limit goes back to the candidate.
  void give_back();

 private:
  struct Block {
    void* data;
    std::size_t bytes;
  };
  const assay_candidate& candidate_;
  // Flat lists: they are short, and libstdc++'s trees are code that MemorySanitizer cannot follow.
  std::vector<Block> idle_, busy_;
  std::size_t idle_bytes_ = 0;
};

}  // namespace assay::harness
