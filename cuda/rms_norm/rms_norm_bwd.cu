// RMSNorm, backward; with the gradient that flows into the residual stream added.
//
// Computes   xhat = h * rstd, u = weight * d_out, c[r] = mean_i u[r, i] * xhat[r, i]
//            d[r, i] = rstd[r] * (u[r, i] - xhat[r, i] * c[r]) + d_out_residual[r, i]  -> d_hidden_states, d_residual
//            d_weight[i] = sum_r d_out[r, i] * xhat[r, i]
// Source     the derivative of rms_norm_fwd.cu; h and the residual's gradient pass through the add unchanged
// Paths      train: rows = B * S
// Layout     as the forward's
// Numerics   float; c by fma in an order fixed by the plan; d rounded once to each output's type. d_weight: team p sums
//            rows p, p + count, ...; then column_sum adds the teams: an order fixed by `rows`; rounded once
// Versions   naive (a thread per row, then a thread per column; double sums), warp_per_row, block_per_row,
//            block_rereads_row
// Cost       memory-bound: rows * width * (sizeof(R) + sizeof(T) read, sizeof(T) written; d_out_residual and d_residual
//            sizeof(R) each), and partials * width * 4 bytes written and read: at most 1/4 of 8 bytes per element
// Limits     width <= 2^30
#include "cuda/common/check.h"
#include "cuda/common/column_sum.h"
#include "cuda/common/planted.h"
#include "cuda/common/team.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/rms_norm/rms_norm.cuh"

namespace assay::gpu {
namespace rms_norm {
namespace {

// Vector i of a row of d_out and of the normed input.
template <int kVec, class T, class R, class W>
SIMT_DEV void load_inputs(const RmsNormDims& dims, const RmsNormBackward<T, R, W>& t, std::int64_t row, int i,
                          float rstd, float (&d_out)[kVec], float (&xhat)[kVec]) {
  load(t.d_out + row * dims.hidden_size + i * kVec, d_out);
  load(t.normed + row * dims.row_stride + i * kVec, xhat);
  SIMT_UNROLL
  for (int j = 0; j < kVec; ++j) xhat[j] *= rstd;
}

template <int kVec, class T, class R, class W>
SIMT_DEV void multiply_by_weight(const RmsNormBackward<T, R, W>& t, int i, float (&u)[kVec]) {
  float weight[kVec];
  load(t.weight + i * kVec, weight);
  SIMT_UNROLL
  for (int j = 0; j < kVec; ++j) u[j] *= weight[j];
}

// d of vector i of a row.
template <int kVec, class T, class R, class W>
SIMT_DEV void store_gradient(const RmsNormDims& dims, const RmsNormBackward<T, R, W>& t, std::int64_t row, int i,
                             float rstd, float c, const float (&u)[kVec], const float (&xhat)[kVec]) {
  const std::int64_t offset = row * dims.hidden_size + i * kVec;
  float d[kVec];
  SIMT_UNROLL
  for (int j = 0; j < kVec; ++j) {
    d[j] = rstd * (planted<Break::projection_left_out> ? u[j] : u[j] - xhat[j] * c);
  }
  if (t.d_out_residual != nullptr && !planted<Break::residual_gradient_lost>) {
    float d_out_residual[kVec];
    load(t.d_out_residual + offset, d_out_residual);
    SIMT_UNROLL
    for (int j = 0; j < kVec; ++j) d[j] += d_out_residual[j];
  }
  store(t.d_hidden_states + offset, d);
  if (t.d_residual != nullptr) store(t.d_residual + offset, d);
}

template <class T, class R, class W>
__global__ void __launch_bounds__(WarpTeam::kMaxThreads, WarpTeam::kMinBlocks)
    rms_norm_backward_naive_kernel(RmsNormDims dims, RmsNormBackward<T, R, W> t) {
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; row < dims.rows;
       row += threads) {
    const float rstd = t.rstd[row];
    float u[1], xhat[1];
    double sum = 0.0;
    for (int i = 0; i < dims.hidden_size; ++i) {
      load_inputs(dims, t, row, i, rstd, u, xhat);
      multiply_by_weight(t, i, u);
      sum += static_cast<double>(u[0]) * xhat[0];
    }
    const auto c = static_cast<float>(sum / static_cast<double>(dims.hidden_size));
    for (int i = 0; i < dims.hidden_size; ++i) {
      load_inputs(dims, t, row, i, rstd, u, xhat);
      multiply_by_weight(t, i, u);
      store_gradient(dims, t, row, i, rstd, c, u, xhat);
    }
  }
}

template <class T, class R, class W>
__global__ void __launch_bounds__(WarpTeam::kMaxThreads, WarpTeam::kMinBlocks)
    rms_norm_d_weight_naive_kernel(RmsNormDims dims, RmsNormBackward<T, R, W> t) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= dims.hidden_size) return;
  float d_out[1], xhat[1];
  double sum = 0.0;
  for (std::int64_t row = 0; row < dims.rows; ++row) {
    load_inputs(dims, t, row, static_cast<int>(i), t.rstd[row], d_out, xhat);
    sum += static_cast<double>(d_out[0]) * xhat[0];
  }
  t.d_weight[i] = from_float<W>(static_cast<float>(sum));
}

// Team p: the gradients of rows p, p + partials, ... and the sum of their parts of d_weight, in t.workspace [p, :].
template <class Team, int kVec, bool kKept, class T, class R, class W>
__global__ void __launch_bounds__(Team::kMaxThreads, Team::kMinBlocks)
    rms_norm_backward_kernel(RmsNormDims dims, RmsNormBackward<T, R, W> t, std::int64_t partials) {
  constexpr int kVectors = kKept ? kKeptVectors<kVec> : 1;
  const Team team;
  const int vectors = static_cast<int>(dims.hidden_size / kVec);
  for (std::int64_t p = team.first(); p < partials; p += team.count()) {
    float* const partial = t.workspace + p * dims.hidden_size;
    float d_weight[kVectors][kVec] = {};
    for (std::int64_t row = p; row < dims.rows; row += partials) {
      const float rstd = t.rstd[planted<Break::stale_rstd> && row > 0 ? row - 1 : row];
      float u[kVectors][kVec], xhat[kVectors][kVec], sum = 0.0f;
      for_each_vector<kKept, kVec>(team, vectors, [&](int i, int k) {
        load_inputs(dims, t, row, i, rstd, u[k], xhat[k]);
        if constexpr (!kKept) {  // each thread comes back to the same elements in every row
          SIMT_UNROLL
          for (int j = 0; j < kVec; ++j) d_weight[k][j] = row == p ? 0.0f : partial[i * kVec + j];
        }
        SIMT_UNROLL
        for (int j = 0; j < kVec; ++j) {
          if (planted<Break::last_row_not_summed> && row + 1 == dims.rows) continue;
          float factor = xhat[k][j];
          if (planted<Break::coarse_products>) {
            factor = __uint_as_float(__float_as_uint(factor) & 0xffffff80u);
          }
          d_weight[k][j] = fmaf(u[k][j], factor, d_weight[k][j]);
        }
        if constexpr (!kKept) store(partial + i * kVec, d_weight[k]);
        multiply_by_weight(t, i, u[k]);
        SIMT_UNROLL
        for (int j = 0; j < kVec; ++j) sum = fmaf(u[k][j], xhat[k][j], sum);
      });
      const float c = team.sum(sum, !planted<Break::sum_not_guarded>) / static_cast<float>(dims.hidden_size);
      for_each_vector<kKept, kVec>(team, vectors, [&](int i, int k) {
        if constexpr (!kKept) {
          load_inputs(dims, t, row, i, rstd, u[k], xhat[k]);
          multiply_by_weight(t, i, u[k]);
        }
        store_gradient(dims, t, row, i, rstd, c, u[k], xhat[k]);
      });
    }
    if constexpr (kKept) {
      for_each_vector<kKept, kVec>(team, vectors, [&](int i, int k) { store(partial + i * kVec, d_weight[k]); });
    }
  }
}

}  // namespace

template <class T, class R, class W>
void launch_backward(const Plan& plan, const RmsNormDims& dims, const RmsNormBackward<T, R, W>& tensors,
                     cudaStream_t stream) {
  const simt::Launch launch{
      .grid = dim3(static_cast<unsigned>(plan.blocks)), .block = dim3(plan.row.threads), .stream = stream};
  if (plan.row.variant == RowVariant::naive) {
    if (dims.rows > 0) simt::launch(rms_norm_backward_naive_kernel<T, R, W>, launch, dims, tensors);
    const auto columns = static_cast<unsigned>((dims.hidden_size + kWarpTeamThreads - 1) / kWarpTeamThreads);
    simt::launch(rms_norm_d_weight_naive_kernel<T, R, W>,
                 {.grid = dim3(columns), .block = dim3(kWarpTeamThreads), .stream = stream}, dims, tensors);
    return;
  }
  if (dims.rows > 0) {
    visit_row_plan<T, kMaxBlockThreads>(plan.row, [&]<class Team, int kVec, bool kKept>() {
      simt::launch(rms_norm_backward_kernel<Team, kVec, kKept, T, R, W>, launch, dims, tensors, plan.partials);
    });
  }
  column_sum(tensors.workspace, plan.partials, dims.hidden_size, tensors.d_weight, stream);
}

}  // namespace rms_norm

template <class T, class R, class W>
void rms_norm_backward(const RmsNormDims& dims, const RmsNormBackward<T, R, W>& tensors, cudaStream_t stream,
                       Method method) {
  const auto& t = tensors;
  rms_norm::check_dims("rms_norm_backward", dims);
  require(t.d_weight, "rms_norm_backward: d_weight is null; want a pointer");
  require(dims.rows == 0 || (t.normed && t.weight && t.rstd && t.d_out && t.d_hidden_states && t.workspace),
          "rms_norm_backward: normed, weight, rstd, d_out, d_hidden_states or workspace is null; want a pointer");
  const int vector =
      vector_width(sizeof(T), {dims.hidden_size, dims.row_stride},
                   {t.normed, t.weight, t.d_out, t.d_out_residual, t.d_hidden_states, t.d_residual, t.workspace});
  rms_norm::launch_backward(rms_norm::plan_backward(dims, vector, method), dims, tensors, stream);
}

using bf16 = __nv_bfloat16;
template void rms_norm_backward(const RmsNormDims&, const RmsNormBackward<float, float, float>&, cudaStream_t, Method);
template void rms_norm_backward(const RmsNormDims&, const RmsNormBackward<bf16, bf16, bf16>&, cudaStream_t, Method);
template void rms_norm_backward(const RmsNormDims&, const RmsNormBackward<bf16, bf16, float>&, cudaStream_t, Method);
template void rms_norm_backward(const RmsNormDims&, const RmsNormBackward<bf16, float, bf16>&, cudaStream_t, Method);
template void rms_norm_backward(const RmsNormDims&, const RmsNormBackward<bf16, float, float>&, cudaStream_t, Method);

namespace rms_norm {
template void launch_backward(const Plan&, const RmsNormDims&, const RmsNormBackward<float, float, float>&,
                              cudaStream_t);
template void launch_backward(const Plan&, const RmsNormDims&, const RmsNormBackward<bf16, bf16, bf16>&, cudaStream_t);
template void launch_backward(const Plan&, const RmsNormDims&, const RmsNormBackward<bf16, bf16, float>&, cudaStream_t);
template void launch_backward(const Plan&, const RmsNormDims&, const RmsNormBackward<bf16, float, bf16>&, cudaStream_t);
template void launch_backward(const Plan&, const RmsNormDims&, const RmsNormBackward<bf16, float, float>&,
                              cudaStream_t);
}  // namespace rms_norm

}  // namespace assay::gpu
