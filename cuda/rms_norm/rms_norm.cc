#include "cuda/rms_norm/rms_norm.h"

#include "cuda/common/check.h"
#include "cuda/rms_norm/rms_norm.cuh"

namespace assay::gpu {
namespace rms_norm {

void check_dims(const char* function, const RmsNormDims& dims) {
  require(dims.rows >= 0, function, ": rows = ", dims.rows, "; want >= 0");
  require(dims.hidden_size >= 1 && dims.hidden_size <= (1 << 30), function, ": hidden_size = ", dims.hidden_size,
          "; want 1 .. 2^30");
  require(dims.row_stride >= dims.hidden_size, function, ": row_stride = ", dims.row_stride,
          "; want >= hidden_size = ", dims.hidden_size);
}

Plan plan_forward(const RmsNormDims& dims, int vector_width, Method method) {
  const RowPlan row = plan_row(dims.hidden_size, vector_width, kMaxBlockThreads, method);
  return {row, row.blocks(dims.rows), 0};
}

Plan plan_backward(const RmsNormDims& dims, int vector_width, Method method) {
  const RowPlan row = plan_row(dims.hidden_size, vector_width, kMaxBlockThreads, method);
  const std::int64_t partials = partial_count(dims.rows);
  return {row, row.blocks(method == Method::naive ? dims.rows : partials), partials};
}

}  // namespace rms_norm

std::size_t rms_norm_backward_workspace(const RmsNormDims& dims) {
  rms_norm::check_dims("rms_norm_backward_workspace", dims);
  return static_cast<std::size_t>(partial_count(dims.rows) * dims.hidden_size) * sizeof(float);
}

const char* rms_norm_variant(const RmsNormDims& dims, std::size_t element_size, Method method) {
  rms_norm::check_dims("rms_norm_variant", dims);
  return name(plan_row(dims.hidden_size, vector_width(element_size, {dims.hidden_size, dims.row_stride}, {}),
                       rms_norm::kMaxBlockThreads, method)
                  .variant);
}

}  // namespace assay::gpu
