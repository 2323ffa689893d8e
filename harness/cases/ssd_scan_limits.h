// How far the scan may be off: limits (gate 2) and freedoms (gate 3) of y and of the states.
#pragma once

#include <cstdint>
#include <vector>

#include "harness/cases/float_errors.h"
#include "harness/core/call.h"

namespace assay::harness {

// A call's inputs as the candidate had them; absent ones are empty, and cu_seqlens where no varlen_states are wanted.
struct ScanOperands {
  std::int64_t batch = 0, seq_len = 0, heads = 1, head_dim = 1, groups = 1, state_size = 1;
  std::vector<double> x, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, cu_seqlens;
  bool D_per_channel = false, dt_softplus = true;
  double dt_min = 0, dt_max = HUGE_VAL;
  DType dtype = DType::float32;

  std::int64_t documents() const { return cu_seqlens.empty() ? 0 : static_cast<std::int64_t>(cu_seqlens.size()) - 1; }
  std::int64_t group_of(std::int64_t head) const { return head / (heads / groups); }
};
ScanOperands scan_operands(const Call& call);

struct ScanTolerance {
  Tolerance y;              // [batch, seq_len, heads, head_dim]
  Tolerance final_state;    // [batch, heads, head_dim, state_size]
  Tolerance varlen_states;  // [documents, heads, head_dim, state_size]
};

// `exact`: inputs of fill `integer`. Heads whose decays are all 1 or 0 then have exact values before every rounding, so
// that only functions err; the others have the limits of every fill.
ScanTolerance scan_tolerance(const ScanOperands& in, const assay_contract& contract, bool exact);

}  // namespace assay::harness
