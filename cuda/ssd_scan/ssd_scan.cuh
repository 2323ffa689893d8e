// Private to the family: the step size, and the launchers of both variants.
#pragma once

#include "cuda/common/math.cuh"
#include "cuda/common/scalars.cuh"
#include "cuda/ssd_scan/plan.h"
#include "cuda/ssd_scan/ssd_scan_normed.h"

namespace assay::gpu::ssd_scan {

// Arguments are checked already.
template <class T>
void launch_naive(const SsdScanDims& dims, const SsdScanForward<T>& tensors, cudaStream_t stream);
template <class T>
void launch_chunked(const Plan& plan, const SsdScanDims& dims, const SsdScanForward<T>& tensors,
                    const SsdScanNorm<T>* norm, cudaStream_t stream);  // norm: of plan_normed, or null

// Delta of a token of a head.
template <class T>
SIMT_DEV float step_size(const SsdScanDims& dims, const SsdScanForward<T>& t, std::int64_t token, std::int64_t head) {
  float v = scalar_at(t.dt, token * dims.dt_stride + head);
  if (t.dt_bias.data != nullptr) v += scalar_at(t.dt_bias, head);
  return fminf(fmaxf(t.dt_softplus ? softplus(v) : v, t.dt_min), t.dt_max);
}

}  // namespace assay::gpu::ssd_scan
