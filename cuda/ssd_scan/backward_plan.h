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
  std::int64_t states = 0;  // elements of each of the two sequences of states in the workspace

  // Floats of partial sums, rounded up to 16 bytes. They stand at the workspace's end, the states before.
  std::int64_t sums(const SsdScanDims& dims) const { return (rows * dims.heads * (2 + dims.head_dim) + 3) / 4 * 4; }
};

BackwardPlan plan_backward(const SsdScanDims& dims, const SsdScanGradientStrides& strides, std::size_t element_size,
                           Method method);

}  // namespace assay::gpu::ssd_scan
