// Gated group RMSNorm, backward.
//
// Computes   v as in the forward, from x and z; vhat = v * rstd, u = weight * d_out
//            c[g, r]   = mean of u[r, j] * vhat[r, j] over j in group g
//            d_v       = rstd * (u - vhat * c),  d_x = d_v * silu(z),  d_z = d_v * x * silu'(z)
//            d_weight[i] = sum_r d_out[r, i] * vhat[r, i]
// Source     the derivative of gated_rms_norm_fwd.cu
// Paths      train: rows = B * S
// Layout     as the forward's; d_x and d_z compact
// Numerics   float; c by fma in an order fixed by the plan; d_x and d_z rounded once. d_weight: team (p, g) sums rows
//            p, p + count, ... of group g; then column_sum adds the teams: an order fixed by `rows`; rounded once
// Versions   naive (a thread per row and group, then a thread per column; double sums), warp_per_row,
//            block_per_row, block_rereads_row
// Cost       memory-bound: rows * width * sizeof(T) * (3 read, 2 written) with a gate, (2 read, 1 written) without;
//            the partial sums of d_weight: at most 1/4 of 8 bytes per element
// Limits     width <= 2^30
#include "cuda/common/check.h"
#include "cuda/common/column_sum.h"
#include "cuda/common/math.cuh"
#include "cuda/common/planted.h"
#include "cuda/common/team.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/gated_rms_norm/gated_rms_norm.cuh"

namespace assay::gpu {
namespace gated_rms_norm {
namespace {

// What the gradients of kVec elements are made of.
template <int kVec>
struct Terms {
  float d_out[kVec];
  float vhat[kVec];
  float dv_dx[kVec];  // silu(z), or 1 without a gate
  float dv_dz[kVec];  // x silu'(z)
};

template <int kVec, class T, class W>
SIMT_DEV void load_terms(const GatedRmsNormDims& dims, const GatedRmsNormBackward<T, W>& t, std::int64_t row,
                         std::int64_t column, float rstd, Terms<kVec>& terms) {
  float x[kVec];
  load(t.d_out + row * dims.width + column, terms.d_out);
  load(t.hidden_states + row * dims.row_stride + column, x);
  if (t.gate != nullptr) {
    float gate[kVec];
    load(t.gate + row * dims.gate_stride + column, gate);
    SIMT_UNROLL
    for (int j = 0; j < kVec; ++j) {
      const Sigmoid sigmoid(gate[j]);
      terms.dv_dx[j] = gate[j] * sigmoid.value;
      terms.dv_dz[j] =
          x[j] * (planted<Break::silu_for_derivative> ? terms.dv_dx[j] : silu_derivative(gate[j], sigmoid));
      x[j] *= terms.dv_dx[j];
    }
  }
  SIMT_UNROLL
  for (int j = 0; j < kVec; ++j) terms.vhat[j] = x[j] * rstd;
}

// Turns terms.d_out into u.
template <int kVec, class T, class W>
SIMT_DEV void multiply_by_weight(const GatedRmsNormBackward<T, W>& t, std::int64_t column, Terms<kVec>& terms) {
  float weight[kVec];
  load(t.weight + column, weight);
  SIMT_UNROLL
  for (int j = 0; j < kVec; ++j) terms.d_out[j] *= weight[j];
}

// `terms` with u in the place of d_out.
template <int kVec, class T, class W>
SIMT_DEV void store_gradients(const GatedRmsNormDims& dims, const GatedRmsNormBackward<T, W>& t, std::int64_t row,
                              std::int64_t column, float rstd, float c, const Terms<kVec>& terms) {
  const std::int64_t offset = row * dims.width + column;
  float d_v[kVec];
  SIMT_UNROLL
  for (int j = 0; j < kVec; ++j) d_v[j] = rstd * (terms.d_out[j] - terms.vhat[j] * c);
  if (t.gate == nullptr) {
    store(t.d_hidden_states + offset, d_v);
    return;
  }
  float d_x[kVec], d_z[kVec];
  SIMT_UNROLL
  for (int j = 0; j < kVec; ++j) {
    d_x[j] = d_v[j] * terms.dv_dx[j];
    d_z[j] = d_v[j] * terms.dv_dz[j];
  }
  store(t.d_hidden_states + offset, d_x);
  store(t.d_gate + offset, d_z);
}

template <class T, class W>
__global__ void __launch_bounds__(WarpTeam::kMaxThreads, WarpTeam::kMinBlocks)
    gated_rms_norm_backward_naive_kernel(GatedRmsNormDims dims, GatedRmsNormBackward<T, W> t) {
  const std::int64_t groups = dims.width / dims.group_size;
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < dims.rows * groups;
       n += threads) {
    const std::int64_t row = n / groups, group = n % groups;
    const std::int64_t begin = group * dims.group_size, end = begin + dims.group_size;
    const float rstd = t.rstd[group * dims.rows + row];
    Terms<1> terms;
    double sum = 0.0;
    for (std::int64_t i = begin; i < end; ++i) {
      load_terms(dims, t, row, i, rstd, terms);
      multiply_by_weight(t, i, terms);
      sum += static_cast<double>(terms.d_out[0]) * terms.vhat[0];
    }
    const auto c = static_cast<float>(sum / static_cast<double>(dims.group_size));
    for (std::int64_t i = begin; i < end; ++i) {
      load_terms(dims, t, row, i, rstd, terms);
      multiply_by_weight(t, i, terms);
      store_gradients(dims, t, row, i, rstd, c, terms);
    }
  }
}

template <class T, class W>
__global__ void __launch_bounds__(WarpTeam::kMaxThreads, WarpTeam::kMinBlocks)
    gated_rms_norm_d_weight_naive_kernel(GatedRmsNormDims dims, GatedRmsNormBackward<T, W> t) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= dims.width) return;
  const float* const rstd = t.rstd + i / dims.group_size * dims.rows;
  Terms<1> terms;
  double sum = 0.0;
  for (std::int64_t row = 0; row < dims.rows; ++row) {
    load_terms(dims, t, row, i, rstd[row], terms);
    sum += static_cast<double>(terms.d_out[0]) * terms.vhat[0];
  }
  t.d_weight[i] = from_float<W>(static_cast<float>(sum));
}

// Team n = (p, group): the gradients of that group in rows p, p + partials, ... and the sum of their parts of d_weight,
// in t.workspace [p, group's columns].
template <class Team, int kVec, bool kKept, class T, class W>
__global__ void __launch_bounds__(Team::kMaxThreads, Team::kMinBlocks)
    gated_rms_norm_backward_kernel(GatedRmsNormDims dims, GatedRmsNormBackward<T, W> t, std::int64_t partials) {
  constexpr int kVectors = kKept ? kKeptVectors<kVec> : 1;
  const Team team;
  const int vectors = static_cast<int>(dims.group_size / kVec);
  const std::int64_t groups = dims.width / dims.group_size;
  for (std::int64_t n = team.first(); n < partials * groups; n += team.count()) {
    const std::int64_t p = n / groups, group = n % groups;
    const std::int64_t begin = group * dims.group_size;
    float* const partial = t.workspace + p * dims.width + begin;
    float d_weight[kVectors][kVec] = {};
    for (std::int64_t row = p; row < dims.rows; row += partials) {
      const float rstd = t.rstd[group * dims.rows + row];
      Terms<kVec> kept[kVectors];
      float sum = 0.0f;
      for_each_vector<kKept, kVec>(team, vectors, [&](int i, int k) {
        Terms<kVec>& terms = kept[k];
        load_terms(dims, t, row, begin + i * kVec, rstd, terms);
        if constexpr (!kKept) {  // each thread comes back to the same elements in every row
          SIMT_UNROLL
          for (int j = 0; j < kVec; ++j) d_weight[k][j] = row == p ? 0.0f : partial[i * kVec + j];
        }
        SIMT_UNROLL
        for (int j = 0; j < kVec; ++j) {
          d_weight[k][j] = fmaf(terms.d_out[j], terms.vhat[j], d_weight[k][j]);
          if (planted<Break::bf16_partials>)
            d_weight[k][j] = to_float(from_float<__nv_bfloat16>(d_weight[k][j]));
        }
        if constexpr (!kKept) store(partial + i * kVec, d_weight[k]);
        multiply_by_weight(t, begin + i * kVec, terms);
        SIMT_UNROLL
        for (int j = 0; j < kVec; ++j) sum = fmaf(terms.d_out[j], terms.vhat[j], sum);
      });
      const float c = team.sum(sum, !planted<Break::gated_sum_not_guarded>) / static_cast<float>(dims.group_size);
      for_each_vector<kKept, kVec>(team, vectors, [&](int i, int k) {
        Terms<kVec>& terms = kept[k];
        if constexpr (!kKept) {
          load_terms(dims, t, row, begin + i * kVec, rstd, terms);
          multiply_by_weight(t, begin + i * kVec, terms);
        }
        store_gradients(dims, t, row, begin + i * kVec, rstd, c, terms);
      });
    }
    if constexpr (kKept) {
      for_each_vector<kKept, kVec>(team, vectors, [&](int i, int k) { store(partial + i * kVec, d_weight[k]); });
    }
  }
}

}  // namespace

template <class T, class W>
void launch_backward(const Plan& plan, const GatedRmsNormDims& dims, const GatedRmsNormBackward<T, W>& tensors,
                     cudaStream_t stream) {
  const simt::Launch launch{
      .grid = dim3(static_cast<unsigned>(plan.blocks)), .block = dim3(plan.row.threads), .stream = stream};
  if (plan.row.variant == RowVariant::naive) {
    if (dims.rows > 0) simt::launch(gated_rms_norm_backward_naive_kernel<T, W>, launch, dims, tensors);
    const auto columns = static_cast<unsigned>((dims.width + kWarpTeamThreads - 1) / kWarpTeamThreads);
    simt::launch(gated_rms_norm_d_weight_naive_kernel<T, W>,
                 {.grid = dim3(columns), .block = dim3(kWarpTeamThreads), .stream = stream}, dims, tensors);
    return;
  }
  if (dims.rows > 0) {
    visit_row_plan<T, kMaxBlockThreads>(plan.row, [&]<class Team, int kVec, bool kKept>() {
      simt::launch(gated_rms_norm_backward_kernel<Team, kVec, kKept, T, W>, launch, dims, tensors, plan.partials);
    });
  }
  column_sum(tensors.workspace, plan.partials, dims.width, tensors.d_weight, stream);
}

}  // namespace gated_rms_norm

template <class T, class W>
void gated_rms_norm_backward(const GatedRmsNormDims& dims, const GatedRmsNormBackward<T, W>& tensors,
                             cudaStream_t stream, Method method) {
  const auto& t = tensors;
  gated_rms_norm::check_dims("gated_rms_norm_backward", dims);
  require(t.d_weight, "gated_rms_norm_backward: d_weight is null; want a pointer");
  require((t.gate == nullptr) == (t.d_gate == nullptr),
          "gated_rms_norm_backward: gate and d_gate; want both or neither");
  require(dims.rows == 0 || (t.hidden_states && t.weight && t.rstd && t.d_out && t.d_hidden_states && t.workspace),
          "gated_rms_norm_backward: hidden_states, weight, rstd, d_out, d_hidden_states or workspace is null; "
          "want a pointer");
  const int vector =
      vector_width(sizeof(T), {dims.group_size, dims.row_stride, dims.gate_stride},
                   {t.hidden_states, t.gate, t.weight, t.d_out, t.d_hidden_states, t.d_gate, t.workspace});
  gated_rms_norm::launch_backward(gated_rms_norm::plan_backward(dims, vector, method), dims, tensors, stream);
}

using bf16 = __nv_bfloat16;
template void gated_rms_norm_backward(const GatedRmsNormDims&, const GatedRmsNormBackward<float, float>&, cudaStream_t,
                                      Method);
template void gated_rms_norm_backward(const GatedRmsNormDims&, const GatedRmsNormBackward<bf16, bf16>&, cudaStream_t,
                                      Method);
template void gated_rms_norm_backward(const GatedRmsNormDims&, const GatedRmsNormBackward<bf16, float>&, cudaStream_t,
                                      Method);

namespace gated_rms_norm {
template void launch_backward(const Plan&, const GatedRmsNormDims&, const GatedRmsNormBackward<float, float>&,
                              cudaStream_t);
template void launch_backward(const Plan&, const GatedRmsNormDims&, const GatedRmsNormBackward<bf16, bf16>&,
                              cudaStream_t);
template void launch_backward(const Plan&, const GatedRmsNormDims&, const GatedRmsNormBackward<bf16, float>&,
                              cudaStream_t);
}  // namespace gated_rms_norm

}  // namespace assay::gpu
