// Private to the family: the launchers of both variants, the order of the states between them, the step size.
#pragma once

#include "cuda/common/math.cuh"
#include "cuda/common/planted.h"
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
// After one of these.
template <class T>
void launch_varlen_states(const Plan& plan, const SsdScanDims& dims, const SsdScanForward<T>& tensors,
                          cudaStream_t stream);

// The order of the states between chunks in the workspace: [tile of channels, chunk], then slices of rows, and in these
// the order of the sums' registers (fragments.cuh), four floats for each piece of each lane of each warp. The warps of
// a block cover a tile's slice, `down` x `across` of them.
struct StateLayout {
  int chunk, channels, slices, slice_columns;
  std::int64_t links;  // states of a tile: chunks - 1

  // Of an element of the state after chunk `link`; `channel` counts over all heads.
  SIMT_DEV std::int64_t offset(std::int64_t channel, std::int64_t link, std::int64_t n) const {
    const int warps = chunk / 16, down = channels >= 32 ? 2 : 1, lefts = channels / 16 / down,
              pairs = slice_columns / (warps / down) / 16;
    const int row = static_cast<int>(channel % channels), left = row / 16, slice = static_cast<int>(n / slice_columns),
              column = static_cast<int>(n % slice_columns), pair = column / 16;
    const int warp = pair / pairs * down + left / lefts, lane = row % 8 * 4 + column % 8 / 2;
    const int piece = (left % lefts * pairs + pair % pairs) * 2 + column / 8 % 2,
              element = row / 8 % 2 * 2 + column % 2;
    const std::int64_t of_warp = ((channel / channels * links + link) * slices + slice) * warps + warp;
    return (of_warp * (lefts * pairs * 2) + piece) * 128 + lane * 4 + element;
  }
};

// Delta of a token of a head.
template <class T>
SIMT_DEV float step_size(const SsdScanDims& dims, const SsdScanForward<T>& t, std::int64_t token, std::int64_t head) {
  float v = scalar_at(t.dt, token * dims.dt_stride + head);
  const float bias = t.dt_bias.data != nullptr ? scalar_at(t.dt_bias, head) : 0.0f;
  if (planted<Break::scan_bias_after_softplus>) return softplus(v) + bias;
  v += bias;
  if (planted<Break::scan_clamp_before_softplus>) return softplus(fminf(fmaxf(v, t.dt_min), t.dt_max));
  if (planted<Break::scan_step_not_clamped>) return t.dt_softplus ? softplus(v) : v;
  return fminf(fmaxf(t.dt_softplus ? softplus(v) : v, t.dt_min), t.dt_max);
}

}  // namespace assay::gpu::ssd_scan
