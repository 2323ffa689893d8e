// The candidate's shared library in this process: loaded, its table checked.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>

#include "harness/abi/assay_candidate.h"
#include "harness/worker/protocol.h"

namespace assay::harness {

// The stage word of the shared file.
class StageMark {
 public:
  explicit StageMark(std::uint32_t* word) : word_(word) {}
  void move_to(std::uint32_t* word) { word_ = word; }
  void set(protocol::Stage stage) const {
    std::atomic_ref<std::uint32_t>(*word_).store(static_cast<std::uint32_t>(stage), std::memory_order_relaxed);
  }

 private:
  std::uint32_t* word_;
};

struct LoadResult {
  protocol::LoadStatus status = protocol::LoadStatus::unusable;
  std::string text;    // why it is not usable
  std::string target;  // what the candidate's target() said
  const assay_candidate* table = nullptr;
};
// A table of a candidate that was compiled without the counting functions ends before them.
constexpr std::size_t kSmallestTable = offsetof(assay_candidate, set_counting);
inline bool can_count(const assay_candidate& table) {
  return table.struct_size >= offsetof(assay_candidate, counters) + sizeof table.counters && table.set_counting &&
         table.counters;
}

LoadResult load_candidate(const char* path, const StageMark& stage);

}  // namespace assay::harness
