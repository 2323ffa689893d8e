// How far one step of the scan may be off: limits (gate 2) and freedoms (gate 3) of y and of the new state.
#pragma once

#include <vector>

#include "harness/cases/norm_limits.h"
#include "harness/core/call.h"

namespace assay::harness {

struct StateUpdateTolerance {
  Tolerance y;      // [batch, heads, head_dim]
  Tolerance state;  // the cache; rows that no batch row uses must keep their bits
};

// `before`: the cache's values before the step. `exact`: inputs of fill `integer`, so that only functions err.
StateUpdateTolerance state_update_tolerance(const Call& call, const std::vector<double>& before,
                                            const assay_contract& contract, bool exact);

}  // namespace assay::harness
