// Private to the family: what both variants of backward share.
#pragma once

#include "cuda/common/math.cuh"
#include "cuda/common/planted.h"
#include "cuda/common/scalars.cuh"
#include "cuda/ssd_scan/backward_plan.h"

namespace assay::gpu::ssd_scan {

// Arguments are checked already.
template <class T>
void launch_backward_naive(const BackwardPlan& plan, const SsdScanDims& dims, const SsdScanBackward<T>& tensors,
                           cudaStream_t stream);

// Partial sums [rows, heads, 2 + head_dim] to d_A, d_dt_bias and d_D (one launch); zeros if there are no rows.
template <class T>
void launch_sums(const SsdScanDims& dims, const SsdScanBackward<T>& tensors, const float* partials, std::int64_t rows,
                 cudaStream_t stream);

// Of a token of a head: Delta, and its derivative by dt.
struct Step {
  float delta, slope;
};

template <class T>
SIMT_DEV Step step_of(const SsdScanDims& dims, const SsdScanBackward<T>& t, std::int64_t token, std::int64_t head) {
  float v = scalar_at(t.dt, token * dims.dt_stride + head);
  if (t.dt_bias.data != nullptr) v += scalar_at(t.dt_bias, head);
  const float s = t.dt_softplus ? softplus(v) : v;
  const bool bends = t.dt_softplus && v <= 20.0f && !planted<Break::scan_bwd_slope_left_out>;
  const float slope = bends ? Sigmoid(v).value : 1.0f;
  const bool passes = planted<Break::scan_bwd_clamp_lets_all_pass> || (s >= t.dt_min && s <= t.dt_max);
  return {fminf(fmaxf(s, t.dt_min), t.dt_max), passes ? slope : 0.0f};
}

template <class T>
SIMT_DEV void store_d_dt(const SsdScanBackward<T>& t, std::int64_t token, std::int64_t head, float value) {
  const std::int64_t at = token * t.strides.dt + head;
  if (t.dt.is_bfloat16) {
    static_cast<__nv_bfloat16*>(t.d_dt)[at] = from_float<__nv_bfloat16>(value);
  } else {
    static_cast<float*>(t.d_dt)[at] = value;
  }
}

// rnd_T, as the gradients of states between two kernels have it.
template <class T>
SIMT_DEV float rounded(float value) {
  return to_float(from_float<T>(value));
}

}  // namespace assay::gpu::ssd_scan
