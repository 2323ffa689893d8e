#include "cuda/ssm_state_update/ssm_state_update.h"

#include "cuda/common/check.h"
#include "cuda/ssm_state_update/ssm_state_update.cuh"

namespace assay::gpu {
namespace ssm_state_update_plan {

void check_dims(const char* function, const SsmStateUpdateDims& d) {
  constexpr std::int64_t kMax = 1 << 20;
  require_size(function, "batch", d.batch, 0, kMax);
  require_size(function, "heads", d.heads, 1, kMax);
  require_size(function, "head_dim", d.head_dim, 1, kMax);
  require_size(function, "state_size", d.state_size, 1, kMax);
  require_groups(function, d.groups, d.heads);
  require_scan_strides(function, d);
  require_stride(function, "state_stride", d.state_stride, d.heads * d.head_dim * d.state_size);
}

Plan plan(const SsmStateUpdateDims& dims, std::size_t activation_size, std::size_t element_size, bool state_aligned,
          Method method) {
  const auto vector = static_cast<std::int64_t>(16 / element_size);
  const bool fits = state_aligned && dims.state_size % vector == 0 && dims.state_size <= kMaxStateSize &&
                    dims.state_stride % vector == 0;
  if (method == Method::naive || !fits) {
    const std::int64_t outputs = dims.batch * dims.heads * dims.head_dim;
    return {.naive = true, .vectors = 0, .rows = 0, .tiles = 0, .blocks = (outputs + kThreads - 1) / kThreads};
  }
  int vectors = 1;
  while (vectors * kLanes * vector < dims.state_size) vectors *= 2;
  Plan plan{
      .naive = false, .vectors = vectors, .rows = rows_per_lane(vectors, activation_size), .tiles = 0, .blocks = 0};
  plan.tiles = (dims.head_dim + plan.rows_per_block() - 1) / plan.rows_per_block();
  plan.blocks = dims.batch * dims.heads * plan.tiles;
  return plan;
}

}  // namespace ssm_state_update_plan

const char* ssm_state_update_variant(const SsmStateUpdateDims& dims, std::size_t element_size, Method method) {
  ssm_state_update_plan::check_dims("ssm_state_update_variant", dims);
  return ssm_state_update_plan::plan(dims, element_size, element_size, true, method).naive ? "naive"
                                                                                           : "rows_in_registers";
}

}  // namespace assay::gpu
