// Private to the family: the launch plan. Pure host functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/ssd_scan/ssd_scan.h"

namespace assay::gpu::ssd_scan {

constexpr int kRowBytes = 128;  // of a row of a tile in shared memory; longer rows are cut into slices
constexpr int kMaxStateSize = 256;
constexpr int kMaxNormedChannels = 1280;  // of a group: 40 registers a thread

struct Plan {
  bool naive;
  int chunk = 0;     // tokens of a chunk: 32, 64 or 128, two threads each
  int channels = 0;  // of a head at a time: 16 or 32
  std::int64_t chunks = 0;
  int slices = 0;       // of a row of B
  int tile_slices = 1;  // of a row of x and y: one tile of channels, or with the norm all channels of a group
  unsigned shared_bytes = 0;
  std::int64_t blocks = 0;
  std::int64_t states = 0;  // in the workspace: those between two chunks
  std::int64_t flags = 0;   // one for each of them and each warp

  std::int64_t state_floats(std::size_t element_size) const {
    return static_cast<std::int64_t>(channels) * slices * kRowBytes / static_cast<std::int64_t>(element_size);
  }
  std::size_t workspace_bytes(std::size_t element_size) const {
    return naive ? 0 : static_cast<std::size_t>(4 * (states * state_floats(element_size) + flags + 1));
  }
};

// `aligned`: all pointers of the call are 16-byte aligned.
Plan plan_forward(const SsdScanDims& dims, std::size_t element_size, bool aligned, Method method);
// With the gated norm behind the scan; .naive: it does not fit into `shared_memory` bytes, or in what a thread keeps.
Plan plan_normed(const SsdScanDims& dims, std::size_t element_size, bool aligned, Method method,
                 std::size_t shared_memory);
void check_dims(const char* function, const SsdScanDims& dims);

}  // namespace assay::gpu::ssd_scan
