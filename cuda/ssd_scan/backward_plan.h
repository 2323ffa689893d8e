// Private to the family: the launch plan of backward. Pure host functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/ssd_scan/plan.h"
#include "cuda/ssd_scan/ssd_scan_backward.h"

namespace assay::gpu::ssd_scan {

struct BackwardPlan {
  bool naive;
  std::int64_t rows = 0;    // of partial sums: [rows, heads, 2 + head_dim] floats, for dA, ddt_bias and dD
  std::int64_t states = 0;  // elements of each of the two sequences of states in the workspace: float, or T if chunked
  // Chunked:
  int chunk = 0;            // tokens of a chunk: 16, 32 or 64
  int channels = 0;         // of a head at a time, at most: as many
  std::int64_t chunks = 0;  // of a batch row
  std::int64_t tiles = 0;   // of channels, in all batch rows and heads
  std::int64_t blocks = 0;  // of the second launch: chunks of groups
  unsigned states_shared_bytes = 0, shared_bytes = 0;

  std::size_t state_bytes(std::size_t element_size) const {
    return static_cast<std::size_t>(2 * states) * (naive ? 4 : element_size);
  }
};

BackwardPlan plan_backward(const SsdScanDims& dims, const SsdScanGradientStrides& strides, std::size_t element_size,
                           Method method);

constexpr int kStatesThreads = 256;

// Floats of shared memory beside the tiles, in the second launch.
constexpr int small_floats(int chunk, int channels) {
  const int strips = chunk / 16, warps = 2 * strips;
  return 2 * 5 * chunk              // delta, cum, E, u and slope, of two heads
         + strips * strips * 33     // sums of pairs of tokens
         + 3 * 2 * chunk            // sums of tokens
         + warps * (1 + channels);  // sums of states and of dD
}

}  // namespace assay::gpu::ssd_scan
