// cp.async of one thread: copies on their way into shared memory.
#pragma once

#include <vector>

#include "cuda/simt/exec/thread.h"

namespace simt {

struct PendingCopy {
  void* to;
  const void* from;
  unsigned bytes, source_bytes;  // the rest is filled with zeros
  bool landed;
  Site site;
};

struct CopyQueue {
  std::vector<PendingCopy> copies;     // oldest first
  std::vector<std::size_t> group_end;  // of each committed group: its copies end here
  void clear() {
    copies.clear();
    group_end.clear();
  }
};

}  // namespace simt
