#include "cuda/ssm_state_update/ssm_state_update.h"

#include "cuda/common/check.h"
#include "cuda/ssm_state_update/ssm_state_update.cuh"

namespace assay::gpu {
namespace ssm_state_update_plan {

void check_dims(const char* function, const SsmStateUpdateDims& d) {
  constexpr std::int64_t kMax = 1 << 20;
  const auto in_range = [](std::int64_t n) { return n >= 1 && n <= kMax; };
  require(d.batch >= 0 && d.batch <= kMax, function, ": batch = ", d.batch, "; want 0 .. 2^20");
  require(in_range(d.heads), function, ": heads = ", d.heads, "; want 1 .. 2^20");
  require(in_range(d.head_dim), function, ": head_dim = ", d.head_dim, "; want 1 .. 2^20");
  require(in_range(d.state_size), function, ": state_size = ", d.state_size, "; want 1 .. 2^20");
  require(d.groups >= 1 && d.heads % d.groups == 0, function, ": groups = ", d.groups,
          "; want a divisor of heads = ", d.heads);
  const auto stride = [&](const char* name, std::int64_t found, std::int64_t least) {
    require(found >= least, function, ": ", name, " = ", found, "; want >= ", least);
  };
  stride("x_stride", d.x_stride, d.heads * d.head_dim);
  stride("dt_stride", d.dt_stride, d.heads);
  stride("B_stride", d.B_stride, d.groups * d.state_size);
  stride("C_stride", d.C_stride, d.groups * d.state_size);
  stride("z_stride", d.z_stride, d.heads * d.head_dim);
  stride("state_stride", d.state_stride, d.heads * d.head_dim * d.state_size);
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
