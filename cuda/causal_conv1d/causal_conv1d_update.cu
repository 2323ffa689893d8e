// Causal depthwise convolution, one token of each batch row.
//
// Computes   p[c]   = bias[c] + sum_{j < taps - 1} weight[c, j] * state[c, L - (taps - 1) + j]
//                     + weight[c, taps - 1] * x[c]
//            out[c] = rnd_T(silu(p)), or rnd_T(p);  state[c] = (state[c, 1], ..., state[c, L - 1], x[c]), L = state_len
// Source     causal_conv1d_update of causal-conv1d; the model's cache has L = taps and never reads column 0
// Paths      decode
// Layout     state [batch, channels, L], in place; batch rows of x may lie a stride apart (a slice of in_proj's output)
// Numerics   as the forward
// Method     a thread owns a channel and walks 16 batch rows: weights in registers; with L = taps = 4 the state of a
//            channel and its weights are one access of 8 (bf16) or 16 bytes each, neighbouring lanes' side by side
// Versions   naive (any taps), tile_by_element (taps <= 4), tile_by_vector (L = taps = 4)
// Cost       memory-bound: batch * channels * sizeof(T) * (2 L + 2), and once taps + 1 for each channel; 16 rows share
//            those. Column 0 of L = taps is not needed and comes along: it lies in the sectors of the others.
//            8 x 768 bf16: 130 KB; the launch costs more than the work
// Limits     channels <= 2^30
#include "cuda/causal_conv1d/window.cuh"
#include "cuda/common/check.h"
#include "cuda/common/math.cuh"
#include "cuda/common/planted.h"
#include "cuda/common/row_plan.h"

namespace assay::gpu {
namespace causal_conv1d {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads)
    causal_conv1d_update_naive_kernel(CausalConv1dDims dims, CausalConv1dUpdate<T> t) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= dims.batch * dims.channels) return;
  const std::int64_t b = n / dims.channels, c = n % dims.channels;
  T* const state = t.state + n * t.state_len;
  const T x = t.hidden_states[b * dims.row_stride + c];
  float p = t.bias != nullptr ? to_float(t.bias[c]) : 0.0f;
  for (std::int64_t j = 0; j < dims.taps; ++j) {
    const T value = j == past(dims) ? x : state[t.state_len - past(dims) + j];
    p = fmaf(to_float(t.weight[c * dims.taps + j]), to_float(value), p);
  }
  t.out[n] = from_float<T>(t.silu ? silu(p) : p);
  for (std::int64_t i = 0; i + 1 < t.state_len; ++i) state[i] = state[i + 1];
  if (t.state_len > 0) state[t.state_len - 1] = x;
}

template <class T, bool kVectors>
__global__ void __launch_bounds__(kThreads)
    causal_conv1d_update_tile_kernel(CausalConv1dDims dims, CausalConv1dUpdate<T> t) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t c = n % dims.channels, first = n / dims.channels * kTileRows;
  const std::int64_t last = first + kTileRows < dims.batch ? first + kTileRows : dims.batch;
  if (first >= dims.batch) return;
  Weights<1> w = {};
  if constexpr (kVectors) {
    float taps[kMaxTaps];
    load_row(t.weight + c * kMaxTaps, taps);
    SIMT_UNROLL
    for (int j = 0; j < kMaxTaps; ++j) w.tap[j][0] = taps[j];
    if (t.bias != nullptr) load_row(t.bias + c, w.bias);
  } else {
    w = load_weights<1>(t.weight, t.bias, dims.taps, c);
  }
  for (std::int64_t b = first; b < last; ++b) {
    const T x = t.hidden_states[b * dims.row_stride + c];
    T* const state = t.state + (b * dims.channels + c) * t.state_len;
    T past[kPast] = {};  // what the taps before the present read
    if constexpr (kVectors) {
      const simt::Vec<T, kMaxTaps> columns = simt::load_vec<kMaxTaps>(state);
      SIMT_UNROLL
      for (int j = 0; j < kPast; ++j) past[j] = columns[j + 1];
      simt::store_vec<kMaxTaps>(state, {past[0], past[1], past[2], x});
    } else {
      const std::int64_t read = t.state_len - kPast;  // read + j: the column of tap j
      SIMT_UNROLL
      for (int j = 0; j < kPast; ++j) {
        if (j >= w.skip) past[j] = state[read + j];
      }
      for (std::int64_t i = 0; i + 1 < read + w.skip; ++i) state[i] = state[i + 1];
      SIMT_UNROLL
      for (int j = 0; j < kPast; ++j) {
        if (j >= w.skip && read + j > 0) state[read + j - 1] = past[j];
      }
      if (t.state_len > 0 && !planted<Break::token_not_kept>) state[t.state_len - 1] = x;
    }
    float p = w.bias[0];
    SIMT_UNROLL
    for (int j = 0; j < kPast; ++j) {
      if (j >= w.skip) p = fmaf(w.tap[j][0], to_float(past[j]), p);
    }
    p = fmaf(w.tap[kPast][0], to_float(x), p);
    t.out[b * dims.channels + c] = from_float<T>(t.silu ? silu(p) : p);
  }
}

}  // namespace

template <class T>
void launch_update(const Plan& plan, const CausalConv1dDims& dims, const CausalConv1dUpdate<T>& tensors,
                   cudaStream_t stream) {
  if (dims.batch == 0) return;
  const std::int64_t threads = (plan.variant == Variant::naive ? dims.batch : plan.tiles) * dims.channels;
  const simt::Launch launch{.grid = dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)),
                            .block = dim3(kThreads),
                            .stream = stream};
  switch (plan.variant) {
    case Variant::naive:
      return simt::launch(causal_conv1d_update_naive_kernel<T>, launch, dims, tensors);
    case Variant::tile_by_element:
      return simt::launch(causal_conv1d_update_tile_kernel<T, false>, launch, dims, tensors);
    case Variant::tile_by_vector:
      return simt::launch(causal_conv1d_update_tile_kernel<T, true>, launch, dims, tensors);
  }
}

}  // namespace causal_conv1d

template <class T>
void causal_conv1d_update(const CausalConv1dDims& dims, const CausalConv1dUpdate<T>& tensors, cudaStream_t stream,
                          Method method) {
  const char* const function = "causal_conv1d_update";
  const auto& t = tensors;
  causal_conv1d::check_dims(function, dims);
  require(dims.seq_len == 1, function, ": seq_len = ", dims.seq_len, "; want 1");
  require(t.state_len >= dims.past(), function, ": state_len = ", t.state_len, "; want >= taps - 1 = ", dims.past());
  require(dims.batch == 0 || (t.hidden_states && t.weight && t.out && (t.state || t.state_len == 0)), function,
          ": hidden_states, state, weight or out is null; want a pointer");
  const bool aligned = vector_width(sizeof(T), {}, {t.state, t.weight}) > 1;
  causal_conv1d::launch_update(causal_conv1d::plan_update(dims, t.state_len, aligned, method), dims, tensors, stream);
}

using bf16 = __nv_bfloat16;
template void causal_conv1d_update(const CausalConv1dDims&, const CausalConv1dUpdate<float>&, cudaStream_t, Method);
template void causal_conv1d_update(const CausalConv1dDims&, const CausalConv1dUpdate<bf16>&, cudaStream_t, Method);

namespace causal_conv1d {
template void launch_update(const Plan&, const CausalConv1dDims&, const CausalConv1dUpdate<float>&, cudaStream_t);
template void launch_update(const Plan&, const CausalConv1dDims&, const CausalConv1dUpdate<bf16>&, cudaStream_t);
}  // namespace causal_conv1d

}  // namespace assay::gpu
