// Private to the family: the launch plan.
#pragma once

#include "cuda/ssm_state_update/ssm_state_update.h"

namespace assay::gpu::ssm_state_update_plan {

constexpr int kThreads = 128;
constexpr int kLanes = 8;  // a row of the state is shared by eight lanes: 128 neighbouring bytes an access
constexpr int kMaxStateSize = 256;

struct Plan {
  bool naive;
  int vectors;         // 16-byte accesses a lane makes for a row: 1, 2, 4 or 8
  int rows;            // rows of the state a lane keeps in registers at a time
  std::int64_t tiles;  // blocks for one head of one batch row
  std::int64_t blocks;

  int rows_per_block() const { return kThreads / kLanes * rows; }
};

// A lane keeps 64 bytes of the state, 128 if B and C are float: then a block's copies of B and C are at most 1/32 of
// its traffic.
constexpr int rows_per_lane(int vectors, std::size_t activation_size) {
  const int kept = activation_size == 4 ? 8 : 4;
  return vectors >= kept ? 1 : kept / vectors;
}

Plan plan(const SsmStateUpdateDims& dims, std::size_t activation_size, std::size_t state_size, bool state_aligned,
          Method method);
void check_dims(const char* function, const SsmStateUpdateDims& dims);

}  // namespace assay::gpu::ssm_state_update_plan
