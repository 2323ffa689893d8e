// Gated group RMSNorm, forward.
//
// Computes   v[r, i]   = x[r, i] * silu(z[r, i]), or x[r, i] without a gate
//            rstd[g,r] = 1 / sqrt(mean of v[r, j]^2 over j in group g + eps)
//            out[r, i] = rnd_T(weight[i] * (v[r, i] * rstd[group(i), r]))
// Source     Mamba-2's output norm, gate before the norm; upstream's layernorm_gated with norm_before_gate = false
// Paths      train and prefill: rows = B * S. decode: rows = B
// Layout     row-major; rows of x and z may lie a stride apart. 16-byte accesses if group, strides and pointers allow
// Numerics   float; silu through a precise e^-|z|; squares by fma in an order fixed by the plan; division and square
//            root, no approximation; one rounding at the store
// Versions   naive (a thread per row and group, double sums), warp_per_row, block_per_row (in registers),
//            block_rereads_row (any size)
// Cost       memory-bound: rows * width * sizeof(T) * (2 read, 1 written), 1 read without a gate.
//            64 x 4096 bf16 in groups of 512: 1.5 MiB, 0.5 us at 3.2 TB/s; one e^x and one division per element
// Limits     width <= 2^30
#include "cuda/common/check.h"
#include "cuda/common/math.cuh"
#include "cuda/common/planted.h"
#include "cuda/common/team.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/gated_rms_norm/gated_rms_norm.cuh"

namespace assay::gpu {
namespace gated_rms_norm {
namespace {

// v at `column` .. column + kVec - 1 of a row.
template <int kVec, class T, class W>
SIMT_DEV void load_gated(const GatedRmsNormDims& dims, const GatedRmsNormForward<T, W>& t, std::int64_t row,
                         std::int64_t column, float (&v)[kVec]) {
  load(t.hidden_states + row * dims.row_stride + column, v);
  if (t.gate == nullptr) return;
  float gate[kVec];
  if (planted<Break::gate_of_another_row>) row = (row ^ 1) < dims.rows ? row ^ 1 : row;
  load(t.gate + row * dims.gate_stride + column, gate);
  SIMT_UNROLL
  for (int j = 0; j < kVec; ++j) v[j] *= silu(gate[j]);
}

template <int kVec, class T, class W>
SIMT_DEV void store_output(const GatedRmsNormDims& dims, const GatedRmsNormForward<T, W>& t, std::int64_t row,
                           std::int64_t column, const float (&v)[kVec], float rstd) {
  float weight[kVec], out[kVec];
  if (planted<Break::group_off_by_one>) {
    load(t.weight + (column + dims.group_size) % dims.width, weight);
  } else {
    load(t.weight + column, weight);
  }
  SIMT_UNROLL
  for (int j = 0; j < kVec; ++j) out[j] = weight[j] * (v[j] * rstd);
  store(t.out + row * dims.width + column, out);
}

template <class T, class W>
__global__ void __launch_bounds__(WarpTeam::kMaxThreads, WarpTeam::kMinBlocks)
    gated_rms_norm_forward_naive_kernel(GatedRmsNormDims dims, GatedRmsNormForward<T, W> t) {
  const std::int64_t groups = dims.width / dims.group_size;
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < dims.rows * groups;
       n += threads) {
    const std::int64_t row = n / groups, group = n % groups;
    const std::int64_t begin = group * dims.group_size, end = begin + dims.group_size;
    float v[1];
    double sum = 0.0;
    for (std::int64_t i = begin; i < end; ++i) {
      load_gated(dims, t, row, i, v);
      sum += static_cast<double>(v[0]) * v[0];
    }
    const float rstd = reciprocal_rms(static_cast<float>(sum), dims.group_size, t.eps);
    for (std::int64_t i = begin; i < end; ++i) {
      load_gated(dims, t, row, i, v);
      store_output(dims, t, row, i, v, rstd);
    }
    if (t.rstd != nullptr) t.rstd[group * dims.rows + row] = rstd;
  }
}

template <class Team, int kVec, bool kKept, class T, class W>
__global__ void __launch_bounds__(Team::kMaxThreads, Team::kMinBlocks)
    gated_rms_norm_forward_kernel(GatedRmsNormDims dims, GatedRmsNormForward<T, W> t) {
  const Team team;
  const int vectors = static_cast<int>(dims.group_size / kVec);
  const std::int64_t groups = dims.width / dims.group_size;
  for (std::int64_t n = team.first(); n < dims.rows * groups; n += team.count()) {
    const std::int64_t row = n / groups, group = n % groups;
    const std::int64_t begin = group * dims.group_size;
    float kept[kKept ? kKeptVectors<kVec> : 1][kVec], sum = 0.0f;
    for_each_vector<kKept, kVec>(team, vectors, [&](int i, int k) {
      float(&v)[kVec] = kept[k];
      load_gated(dims, t, row, begin + i * kVec, v);
      SIMT_UNROLL
      for (int j = 0; j < kVec; ++j) sum = fmaf(v[j], v[j], sum);
    });
    const float rstd =
        reciprocal_rms(team.sum(sum), planted<Break::mean_over_width> ? dims.width : dims.group_size, t.eps);
    for_each_vector<kKept, kVec>(team, vectors, [&](int i, int k) {
      float(&v)[kVec] = kept[k];
      if constexpr (!kKept) load_gated(dims, t, row, begin + i * kVec, v);
      store_output(dims, t, row, begin + i * kVec, v, rstd);
    });
    if (t.rstd != nullptr && team.rank() == 0) {
      t.rstd[planted<Break::rstd_transposed> ? row * groups + group : group * dims.rows + row] = rstd;
    }
  }
}

}  // namespace

template <class T, class W>
void launch_forward(const Plan& plan, const GatedRmsNormDims& dims, const GatedRmsNormForward<T, W>& tensors,
                    cudaStream_t stream) {
  if (dims.rows == 0) return;
  const simt::Launch launch{
      .grid = dim3(static_cast<unsigned>(plan.blocks)), .block = dim3(plan.row.threads), .stream = stream};
  if (plan.row.variant == RowVariant::naive) {
    simt::launch(gated_rms_norm_forward_naive_kernel<T, W>, launch, dims, tensors);
    return;
  }
  visit_row_plan<T, kMaxBlockThreads>(plan.row, [&]<class Team, int kVec, bool kKept>() {
    simt::launch(gated_rms_norm_forward_kernel<Team, kVec, kKept, T, W>, launch, dims, tensors);
  });
}

}  // namespace gated_rms_norm

template <class T, class W>
void gated_rms_norm_forward(const GatedRmsNormDims& dims, const GatedRmsNormForward<T, W>& tensors, cudaStream_t stream,
                            Method method) {
  const auto& t = tensors;
  gated_rms_norm::check_dims("gated_rms_norm_forward", dims);
  require(t.eps >= 0.0f && t.eps < HUGE_VALF, "gated_rms_norm_forward: eps = ", t.eps, "; want finite and >= 0");
  require(dims.rows == 0 || (t.hidden_states && t.weight && t.out),
          "gated_rms_norm_forward: hidden_states, weight or out is null; want a pointer");
  const int vector = vector_width(sizeof(T), {dims.group_size, dims.row_stride, dims.gate_stride},
                                  {t.hidden_states, t.gate, t.weight, t.out});
  gated_rms_norm::launch_forward(gated_rms_norm::plan_forward(dims, vector, method), dims, tensors, stream);
}

using bf16 = __nv_bfloat16;
template void gated_rms_norm_forward(const GatedRmsNormDims&, const GatedRmsNormForward<float, float>&, cudaStream_t,
                                     Method);
template void gated_rms_norm_forward(const GatedRmsNormDims&, const GatedRmsNormForward<bf16, bf16>&, cudaStream_t,
                                     Method);
template void gated_rms_norm_forward(const GatedRmsNormDims&, const GatedRmsNormForward<bf16, float>&, cudaStream_t,
                                     Method);

namespace gated_rms_norm {
template void launch_forward(const Plan&, const GatedRmsNormDims&, const GatedRmsNormForward<float, float>&,
                             cudaStream_t);
template void launch_forward(const Plan&, const GatedRmsNormDims&, const GatedRmsNormForward<bf16, bf16>&,
                             cudaStream_t);
template void launch_forward(const Plan&, const GatedRmsNormDims&, const GatedRmsNormForward<bf16, float>&,
                             cudaStream_t);
}  // namespace gated_rms_norm

}  // namespace assay::gpu
