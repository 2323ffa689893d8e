// How far the gradients of the scan may be off: limits (gate 2) and freedoms (gate 3).
#pragma once

#include <cstdint>
#include <vector>

#include "harness/cases/ssd_scan_limits.h"

namespace assay::harness {

struct ScanGradientOperands {
  std::vector<double> d_y;            // [batch, seq_len, heads, head_dim]
  std::vector<double> d_final_state;  // [batch, heads, head_dim, state_size], or empty
  std::vector<double> ungated_y;      // exact; with a gate
  DType dt_dtype = DType::float32, initial_state_dtype = DType::float32;
};

// In the shapes of the gradients; those of absent inputs are empty.
struct ScanGradientTolerance {
  Tolerance x, dt, A, B, C, D, z, dt_bias, initial_state;
};

ScanGradientTolerance scan_gradient_tolerance(const ScanOperands& in, const ScanGradientOperands& gradients,
                                              const assay_contract& contract);

}  // namespace assay::harness
