#include "cuda/gated_rms_norm/gated_rms_norm.h"

#include "cuda/common/check.h"
#include "cuda/gated_rms_norm/gated_rms_norm.cuh"

namespace assay::gpu {
namespace gated_rms_norm {

void check_dims(const char* function, const GatedRmsNormDims& dims) {
  require(dims.rows >= 0, function, ": rows = ", dims.rows, "; want >= 0");
  require(dims.width >= 1 && dims.width <= (1 << 30), function, ": width = ", dims.width, "; want 1 .. 2^30");
  require(dims.group_size >= 1 && dims.width % dims.group_size == 0, function, ": group_size = ", dims.group_size,
          "; want a divisor of width = ", dims.width);
  require(dims.row_stride >= dims.width, function, ": row_stride = ", dims.row_stride,
          "; want >= width = ", dims.width);
  require(dims.gate_stride >= dims.width, function, ": gate_stride = ", dims.gate_stride,
          "; want >= width = ", dims.width);
}

Plan plan_forward(const GatedRmsNormDims& dims, int vector_width, Method method) {
  const RowPlan row = plan_row(dims.group_size, vector_width, kMaxBlockThreads, method);
  return {row, row.blocks(dims.rows * dims.groups()), 0};
}

Plan plan_backward(const GatedRmsNormDims& dims, int vector_width, Method method) {
  const RowPlan row = plan_row(dims.group_size, vector_width, kMaxBlockThreads, method);
  const std::int64_t partials = partial_count(dims.rows);
  const std::int64_t teams = (method == Method::naive ? dims.rows : partials) * dims.groups();
  return {row, row.blocks(teams), partials};
}

}  // namespace gated_rms_norm

std::size_t gated_rms_norm_backward_workspace(const GatedRmsNormDims& dims) {
  gated_rms_norm::check_dims("gated_rms_norm_backward_workspace", dims);
  return static_cast<std::size_t>(partial_count(dims.rows) * dims.width) * sizeof(float);
}

const char* gated_rms_norm_variant(const GatedRmsNormDims& dims, std::size_t element_size, Method method) {
  gated_rms_norm::check_dims("gated_rms_norm_variant", dims);
  const int vector = vector_width(element_size, {dims.group_size, dims.row_stride, dims.gate_stride}, {});
  return name(plan_row(dims.group_size, vector, gated_rms_norm::kMaxBlockThreads, method).variant);
}

}  // namespace assay::gpu
