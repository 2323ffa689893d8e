// One tensor (or the workspace) in device memory with a fence on either side, what it held before the run, and what was
// found in it afterwards.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/abi/assay_candidate.h"
#include "harness/worker/layout.h"
#include "harness/worker/memory_pool.h"
#include "harness/worker/poison.h"
#include "harness/worker/protocol.h"

namespace assay::harness {

// Which bytes or elements differ from what they should be.
struct Difference {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

// A tensor's host memory, kept between requests: fresh pages cost more than what is done with them.
struct HostCopies {
  std::vector<std::byte> image;                  // what is uploaded: fence, storage, fence
  std::array<std::vector<std::byte>, 2> actual;  // the same after a run
  std::size_t bytes() const { return image.capacity() + actual[0].capacity() + actual[1].capacity(); }
};

class GuardedTensor {
 public:
  // `owner` makes the fences unlike those of other tensors. `poison` is the element's for each pattern.
  // `host` must outlive it.
  GuardedTensor(Layout layout, std::uint32_t owner, std::array<Poison, 2> poison, HostCopies& host);

  // Host image for a run: fences and gaps, and in the elements `content` (row-major, compact), or poison if that is
  // null.
  void fill_image(int pattern, const std::byte* content);
  void fill_image_with_zeros(int pattern);

  // Device side. False and `error` if the candidate reports one. `slot` 0 or 1: which of two downloads to keep.
  // `is_result`: MemorySanitizer reports elements that were computed from memory that nobody had written.
  bool allocate(MemoryPool& pool, std::string& error);
  bool upload(const assay_candidate& candidate, std::string& error);
  bool download(const assay_candidate& candidate, int slot, bool is_result, std::string& error);
  void* data() const { return base_ + kFenceBytes; }

  // Of download 0, against the image that was uploaded last before it.
  std::optional<Difference> changed_fence(protocol::Where where) const;  // bytes; offset as in PROTOCOL.md
  std::optional<Difference> changed_elements() const;
  // Elements that hold the poison in download 0 (of `pattern`) and, if `both`, the other poison in download 1.
  Difference unwritten(int pattern, bool both) const;

  const Layout& layout() const { return layout_; }
  void gather(std::byte* compact) const { layout_.gather(host_->actual[0].data() + kFenceBytes, compact); }

 private:
  std::size_t guarded_bytes() const { return layout_.storage_bytes() + 2 * kFenceBytes; }
  void fill_fences(int pattern);
  void require_defined_elements(const std::vector<std::byte>& host) const;

  Layout layout_;
  std::uint32_t owner_;
  std::array<Poison, 2> poison_;
  HostCopies* host_;
  std::byte* base_ = nullptr;
};

}  // namespace assay::harness
