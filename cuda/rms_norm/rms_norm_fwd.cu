// RMSNorm with an optional residual add, forward.
//
// Computes   h[r, i]   = rnd_R(x[r, i] + residual[r, i]), or x[r, i] without a residual
//            rstd[r]   = 1 / sqrt(mean_i h[r, i]^2 + eps)
//            out[r, i] = rnd_T(weight[i] * (h[r, i] * rstd[r])),  out_residual = h
// Source     the norm before every mixer, joined with the add that ends the block before it (h' = res + mixer(norm(h)))
// Paths      train and prefill: rows = B * S. decode: rows = B
// Layout     row-major; x's rows may lie row_stride apart. 16-byte accesses if width, stride and pointers allow
// Numerics   squares summed in float by fma, in an order fixed by the plan; division and square root, no approximation
// Versions   naive (a thread per row, double sums), warp_per_row, block_per_row (row in registers),
//            block_rereads_row (any width)
// Cost       memory-bound: rows * width * (sizeof(T) read + sizeof(T) written), with a residual also sizeof(R) of each.
//            64 x 4096 bf16 without residual: 1 MiB, 0.33 us at 3.2 TB/s: a launch's own latency is more.
//            block_rereads_row reads a second time what the first pass left in L1 or L2
// Limits     width <= 2^30
#include "cuda/common/check.h"
#include "cuda/common/math.cuh"
#include "cuda/common/planted.h"
#include "cuda/common/team.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/rms_norm/rms_norm.cuh"

namespace assay::gpu {
namespace rms_norm {
namespace {

SIMT_DEV float rstd_of(float sum_of_squares, std::int64_t width, float eps) {
  if (planted<Break::eps_outside_root>)
    return 1.0f / (1.0f / reciprocal_rms(sum_of_squares, width, 0.0f) + eps);
  if (planted<Break::eps_added_to_sum>) return reciprocal_rms(sum_of_squares + eps, width, 0.0f);
  const float rstd = reciprocal_rms(sum_of_squares, width, eps);
  if (planted<Break::coarse_rsqrt>) return __uint_as_float(__float_as_uint(rstd) & 0xfffff000u);
  if (planted<Break::unfinished_rsqrt>) return __uint_as_float(__float_as_uint(rstd) & 0xfffffff0u);
  return rstd;
}

// h of vector i of a row, as the residual stream stores it.
template <int kVec, class T, class R, class W>
SIMT_DEV void load_normed(const RmsNormDims& dims, const RmsNormForward<T, R, W>& t, std::int64_t row, int i,
                          float (&h)[kVec]) {
  load(t.hidden_states + row * dims.row_stride + i * kVec, h);
  if (t.residual == nullptr) return;
  float residual[kVec];
  load(t.residual + row * dims.hidden_size + i * kVec, residual);
  SIMT_UNROLL
  for (int j = 0; j < kVec; ++j) h[j] = to_float(from_float<R>(h[j] + residual[j]));
}

// out and out_residual of vector i of a row.
template <int kVec, class T, class R, class W>
SIMT_DEV void store_outputs(const RmsNormDims& dims, const RmsNormForward<T, R, W>& t, std::int64_t row, int i,
                            const float (&h)[kVec], float rstd) {
  const std::int64_t offset = row * dims.hidden_size + i * kVec;
  float weight[kVec], out[kVec];
  if (t.out_residual != nullptr) {
    store(t.out_residual + offset, h);
    if (planted<Break::residual_not_added>) {
      load(t.hidden_states + row * dims.row_stride + i * kVec, out);
      store(t.out_residual + offset, out);
    }
  }
  load(t.weight + i * kVec, weight);
  SIMT_UNROLL
  for (int j = 0; j < kVec; ++j) {
    out[j] = weight[j] * (h[j] * rstd);
    if (planted<Break::output_rounded_twice>) out[j] = weight[j] * to_float(from_float<T>(h[j] * rstd));
    if (planted<Break::output_truncated> && sizeof(T) == 2) {
      out[j] = __uint_as_float(__float_as_uint(out[j]) & 0xffff0000u);
    }
  }
  if (planted<Break::tail_not_stored> && kVec == 1) {
    if (i + 1 == dims.hidden_size) return;
  }
  store(t.out_hidden_states + offset, out);
}

template <class T, class R, class W>
__global__ void __launch_bounds__(WarpTeam::kMaxThreads, WarpTeam::kMinBlocks)
    rms_norm_forward_naive_kernel(RmsNormDims dims, RmsNormForward<T, R, W> t) {
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; row < dims.rows;
       row += threads) {
    float h[1];
    double sum = 0.0;
    for (int i = 0; i < dims.hidden_size; ++i) {
      load_normed(dims, t, row, i, h);
      sum += static_cast<double>(h[0]) * h[0];
    }
    const float rstd = rstd_of(static_cast<float>(sum), dims.hidden_size, t.eps);
    for (int i = 0; i < dims.hidden_size; ++i) {
      load_normed(dims, t, row, i, h);
      store_outputs(dims, t, row, i, h, rstd);
    }
    if (t.rstd != nullptr) t.rstd[row] = rstd;
  }
}

template <class Team, int kVec, bool kKept, class T, class R, class W>
__global__ void __launch_bounds__(Team::kMaxThreads, Team::kMinBlocks)
    rms_norm_forward_kernel(RmsNormDims dims, RmsNormForward<T, R, W> t) {
  const Team team;
  const int vectors = static_cast<int>(dims.hidden_size / kVec);
  for (std::int64_t row = team.first(); row < dims.rows; row += team.count()) {
    float kept[kKept ? kKeptVectors<kVec> : 1][kVec], sum = 0.0f;
    for_each_vector<kKept, kVec>(team, vectors, [&](int i, int k) {
      float(&h)[kVec] = kept[k];
      load_normed(dims, t, row, i, h);
      SIMT_UNROLL
      for (int j = 0; j < kVec; ++j) {
        sum = fmaf(h[j], h[j], sum);
        if (planted<Break::bf16_sum>) sum = to_float(from_float<__nv_bfloat16>(sum));
      }
    });
    const float rstd = rstd_of(team.sum(sum), dims.hidden_size, t.eps);
    for_each_vector<kKept, kVec>(team, vectors, [&](int i, int k) {
      float(&h)[kVec] = kept[k];
      if constexpr (!kKept) load_normed(dims, t, row, i, h);
      store_outputs(dims, t, row, i, h, rstd);
    });
    if (t.rstd != nullptr && team.rank() == 0) t.rstd[row] = rstd;
  }
}

}  // namespace

template <class T, class R, class W>
void launch_forward(const Plan& plan, const RmsNormDims& dims, const RmsNormForward<T, R, W>& tensors,
                    cudaStream_t stream) {
  if (dims.rows == 0) return;
  const simt::Launch launch{
      .grid = dim3(static_cast<unsigned>(plan.blocks)), .block = dim3(plan.row.threads), .stream = stream};
  if (plan.row.variant == RowVariant::naive) {
    simt::launch(rms_norm_forward_naive_kernel<T, R, W>, launch, dims, tensors);
    return;
  }
  visit_row_plan<T, kMaxBlockThreads>(plan.row, [&]<class Team, int kVec, bool kKept>() {
    simt::launch(rms_norm_forward_kernel<Team, kVec, kKept, T, R, W>, launch, dims, tensors);
  });
}

}  // namespace rms_norm

template <class T, class R, class W>
void rms_norm_forward(const RmsNormDims& dims, const RmsNormForward<T, R, W>& tensors, cudaStream_t stream,
                      Method method) {
  const auto& t = tensors;
  rms_norm::check_dims("rms_norm_forward", dims);
  require(t.eps >= 0.0f && t.eps < HUGE_VALF, "rms_norm_forward: eps = ", t.eps, "; want finite and >= 0");
  require((t.residual == nullptr) == (t.out_residual == nullptr),
          "rms_norm_forward: residual and out_residual; want both or neither");
  require(dims.rows == 0 || (t.hidden_states && t.weight && t.out_hidden_states),
          "rms_norm_forward: hidden_states, weight or out_hidden_states is null; want a pointer");
  const int vector = vector_width(sizeof(T), {dims.hidden_size, dims.row_stride},
                                  {t.hidden_states, t.residual, t.weight, t.out_hidden_states, t.out_residual});
  rms_norm::launch_forward(rms_norm::plan_forward(dims, vector, method), dims, tensors, stream);
}

using bf16 = __nv_bfloat16;
template void rms_norm_forward(const RmsNormDims&, const RmsNormForward<float, float, float>&, cudaStream_t, Method);
template void rms_norm_forward(const RmsNormDims&, const RmsNormForward<bf16, bf16, bf16>&, cudaStream_t, Method);
template void rms_norm_forward(const RmsNormDims&, const RmsNormForward<bf16, bf16, float>&, cudaStream_t, Method);
template void rms_norm_forward(const RmsNormDims&, const RmsNormForward<bf16, float, bf16>&, cudaStream_t, Method);
template void rms_norm_forward(const RmsNormDims&, const RmsNormForward<bf16, float, float>&, cudaStream_t, Method);

namespace rms_norm {
template void launch_forward(const Plan&, const RmsNormDims&, const RmsNormForward<float, float, float>&, cudaStream_t);
template void launch_forward(const Plan&, const RmsNormDims&, const RmsNormForward<bf16, bf16, bf16>&, cudaStream_t);
template void launch_forward(const Plan&, const RmsNormDims&, const RmsNormForward<bf16, bf16, float>&, cudaStream_t);
template void launch_forward(const Plan&, const RmsNormDims&, const RmsNormForward<bf16, float, bf16>&, cudaStream_t);
template void launch_forward(const Plan&, const RmsNormDims&, const RmsNormForward<bf16, float, float>&, cudaStream_t);
}  // namespace rms_norm

}  // namespace assay::gpu
