// Private to the family: the launch plan, and launchers that take one (tests choose their own).
// A "row" of the plan is one group of channels of one row.
#pragma once

#include "cuda/common/row_plan.h"
#include "cuda/gated_rms_norm/gated_rms_norm.h"

namespace assay::gpu::gated_rms_norm {

constexpr int kMaxBlockThreads = 384;  // with 512 the backward would spill

struct Plan {
  RowPlan row;
  std::int64_t blocks;
  std::int64_t partials;  // of the weight gradient; 0 in the forward
};

Plan plan_forward(const GatedRmsNormDims& dims, int vector_width, Method method);
Plan plan_backward(const GatedRmsNormDims& dims, int vector_width, Method method);
void check_dims(const char* function, const GatedRmsNormDims& dims);

// Arguments are checked already.
template <class T, class W>
void launch_forward(const Plan& plan, const GatedRmsNormDims& dims, const GatedRmsNormForward<T, W>& tensors,
                    cudaStream_t stream);
template <class T, class W>
void launch_backward(const Plan& plan, const GatedRmsNormDims& dims, const GatedRmsNormBackward<T, W>& tensors,
                     cudaStream_t stream);

}  // namespace assay::gpu::gated_rms_norm
