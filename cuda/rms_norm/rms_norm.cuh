// Private to the family: the launch plan, and launchers that take one (tests choose their own).
#pragma once

#include "cuda/common/row_plan.h"
#include "cuda/rms_norm/rms_norm.h"

namespace assay::gpu::rms_norm {

constexpr int kMaxBlockThreads = 512;  // 8,192 channels of either type fit in registers

struct Plan {
  RowPlan row;
  std::int64_t blocks;
  std::int64_t partials;  // of the weight gradient; 0 in the forward
};

Plan plan_forward(const RmsNormDims& dims, int vector_width, Method method);
Plan plan_backward(const RmsNormDims& dims, int vector_width, Method method);
void check_dims(const char* function, const RmsNormDims& dims);

// Arguments are checked already.
template <class T, class R, class W>
void launch_forward(const Plan& plan, const RmsNormDims& dims, const RmsNormForward<T, R, W>& tensors,
                    cudaStream_t stream);
template <class T, class R, class W>
void launch_backward(const Plan& plan, const RmsNormDims& dims, const RmsNormBackward<T, R, W>& tensors,
                     cudaStream_t stream);

}  // namespace assay::gpu::rms_norm
