// Causal depthwise convolution, forward.
//
// Computes   p[t, c] = bias[c] + sum_j weight[c, j] * x[t - (taps - 1) + j, c], inside the document of t
//            out[t, c] = rnd_T(silu(p)), or rnd_T(p); 0 where seq_idx < 0
//            final_state[c, i] = column i of the last taps - 1 of (initial state, x)
// Source     causal-conv1d (channel-last). Reference: reference/causal_conv1d.cc
// Paths      train (seq_idx), prefill (states)
// Layout     tokens of x may lie a stride apart; states [batch, channels, taps - 1]. 16-byte accesses if channels,
//            strides and pointers allow
// Numerics   float, one fma per tap from the bias, oldest to newest; silu through a precise e^-|p|; one rounding
// Method     a thread owns 16 bytes of channels and walks 128 tokens: weights in registers, the last 3 rows of x in
//            registers, the next 4 loaded together before any is used
// Versions   naive (a thread per output; any taps), tile_by_element, tile_by_vector (taps <= 4)
// Registers  sm_90a: 147 of 168 (bf16: weights 40, rows 7 * 8, p 8, addresses), 96 (float); 384 threads an SM,
//            each with 4 loads of 16 bytes in flight: 24 KiB, where 3.2 TB/s times 0.6 us ask for 15 KiB of each of 132
// Cost       memory-bound. Compulsory: tokens * channels * sizeof(T) * (1 read, 1 written) and the weights once; a tile
//            adds 3 rows of x and 5 rows' worth of weights and bias: 8 / 256 = 3.1 %. 1024 x 768 bf16: 3.0 MiB, 1.0 us
//            at 3.2 TB/s, if 768 threads could fill the device; they cannot, 8192 x 6144 do
// Limits     channels <= 2^30
#include <algorithm>

#include "cuda/causal_conv1d/window.cuh"
#include "cuda/common/check.h"
#include "cuda/common/math.cuh"
#include "cuda/common/planted.h"
#include "cuda/common/row_plan.h"

namespace assay::gpu {
namespace causal_conv1d {
namespace {

constexpr int kBatch = 4;  // tokens whose rows are loaded together

template <class T>
SIMT_DEV void write_final_state(const CausalConv1dDims& dims, const CausalConv1dForward<T>& t, std::int64_t b,
                                std::int64_t c) {
  for (std::int64_t i = 0; i < past(dims); ++i) {
    std::int64_t from = dims.seq_len - past(dims) + i;
    if (planted<Break::final_state_shifted>) from -= dims.seq_len < past(dims);
    float x[1];
    load_input(dims, t.in, b, from, c, x);
    t.final_state[(b * dims.channels + c) * past(dims) + i] = from_float<T>(x[0]);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    causal_conv1d_forward_naive_kernel(CausalConv1dDims dims, CausalConv1dForward<T> t) {
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t results = dims.batch * dims.seq_len * dims.channels, states = dims.batch * dims.channels;
  for (std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < results; n += threads) {
    const std::int64_t c = n % dims.channels, token = n / dims.channels % dims.seq_len;
    const std::int64_t b = n / dims.channels / dims.seq_len;
    const float p = sum_taps_plainly(dims, t.in, b, token, c);
    const bool padding = document(dims, t.in, b, token) < 0;
    t.out[n] = from_float<T>(padding ? 0.0f : t.in.silu ? silu(p) : p);
  }
  if (t.final_state == nullptr) return;
  for (std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < states; n += threads) {
    write_final_state(dims, t, n / dims.channels, n % dims.channels);
  }
}

template <class T, int kVec>
__global__ void __launch_bounds__(kThreads, 3)
    causal_conv1d_forward_tile_kernel(CausalConv1dDims dims, CausalConv1dForward<T> t, std::int64_t tiles) {
  const Place at(dims.batch, tiles, dims.channels / kVec, kVec);
  if (!at.inside) return;
  const std::int64_t first = at.tile * kTileTokens;
  const std::int64_t last = first + kTileTokens < dims.seq_len ? first + kTileTokens : dims.seq_len;
  Weights<kVec> w = load_weights<kVec>(t.in.weight, t.in.bias, dims.taps, at.column);
  if (planted<Break::taps_reversed>) {
    for (int i = 0; i < kVec; ++i) {
      for (int j = 0; j < kMaxTaps / 2; ++j) {
        const float tap = w.tap[j][i];
        w.tap[j][i] = w.tap[kPast - j][i];
        w.tap[kPast - j][i] = tap;
      }
    }
  }
  if (planted<Break::bias_dropped>) {
    for (int i = 0; i < kVec; ++i) w.bias[i] = 0.0f;
  }

  float rows[kPast + kBatch][kVec] = {};
  int documents[kPast + kBatch] = {};
  SIMT_UNROLL
  for (int i = 0; i < kPast; ++i) {
    if (planted<Break::halo_forgotten>) {
      if (first > 0) continue;
    }
    if (planted<Break::initial_state_ignored>) {
      if (first == 0) continue;
    }
    if (i < w.skip) continue;
    load_input(dims, t.in, at.b, first - kPast + i, at.column, rows[i]);
    documents[i] = document(dims, t.in, at.b, first - kPast + i);
  }
  for (std::int64_t token = first; token < last; token += kBatch) {
    SIMT_UNROLL
    for (int r = 0; r < kBatch; ++r) {
      if (token + r >= last) continue;
      load_input(dims, t.in, at.b, token + r, at.column, rows[kPast + r]);
      documents[kPast + r] = document(dims, t.in, at.b, token + r);
    }
    SIMT_UNROLL
    for (int r = 0; r < kBatch; ++r) {
      if (token + r >= last) continue;
      bool reads[kMaxTaps];
      SIMT_UNROLL
      for (int j = 0; j < kMaxTaps; ++j) {
        reads[j] = j >= w.skip && (planted<Break::document_ignored> || documents[r + j] == documents[r + kPast]);
      }
      float p[kVec];
      sum_taps(w, rows + r, reads, p);
      SIMT_UNROLL
      for (int i = 0; i < kVec; ++i) {
        p[i] = documents[r + kPast] < 0 ? 0.0f : t.in.silu ? silu(p[i]) : p[i];
      }
      store_row(t.out + (at.b * dims.seq_len + token + r) * dims.channels + at.column, p);
    }
    SIMT_UNROLL
    for (int k = 0; k < kPast; ++k) {
      SIMT_UNROLL
      for (int i = 0; i < kVec; ++i) rows[k][i] = rows[k + kBatch][i];
      documents[k] = documents[k + kBatch];
    }
  }
  if (t.final_state == nullptr || at.tile != tiles - 1) return;
  for (int i = 0; i < kVec; ++i) write_final_state(dims, t, at.b, at.column + i);
}

}  // namespace

template <class T>
void launch_forward(const Plan& plan, const CausalConv1dDims& dims, const CausalConv1dForward<T>& tensors,
                    cudaStream_t stream) {
  if (dims.batch == 0 || (dims.seq_len == 0 && tensors.final_state == nullptr)) return;
  const auto launch_for = [&](std::int64_t threads) {
    return simt::Launch{.grid = dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)),
                        .block = dim3(kThreads),
                        .stream = stream};
  };
  if (plan.variant == Variant::naive) {
    const std::int64_t results = dims.batch * std::max<std::int64_t>(dims.seq_len, 1) * dims.channels;
    simt::launch(causal_conv1d_forward_naive_kernel<T>, launch_for(std::min(results, kMaxBlocks * kThreads)), dims,
                 tensors);
  } else if (plan.variant == Variant::tile_by_vector) {
    constexpr int kVec = 16 / sizeof(T);
    simt::launch(causal_conv1d_forward_tile_kernel<T, kVec>, launch_for(dims.batch * plan.tiles * dims.channels / kVec),
                 dims, tensors, plan.tiles);
  } else {
    simt::launch(causal_conv1d_forward_tile_kernel<T, 1>, launch_for(dims.batch * plan.tiles * dims.channels), dims,
                 tensors, plan.tiles);
  }
}

}  // namespace causal_conv1d

template <class T>
void causal_conv1d_forward(const CausalConv1dDims& dims, const CausalConv1dForward<T>& tensors, cudaStream_t stream,
                           Method method) {
  const char* const function = "causal_conv1d_forward";
  const auto& t = tensors;
  causal_conv1d::check_dims(function, dims);
  causal_conv1d::check_states(function, dims, t.in.initial_state || t.final_state, t.in.seq_idx);
  require(dims.batch == 0 || t.in.weight, function, ": weight is null; want a pointer");
  require(dims.batch == 0 || dims.seq_len == 0 || (t.in.hidden_states && t.out), function,
          ": hidden_states or out is null; want a pointer");
  const int vector =
      vector_width(sizeof(T), {dims.channels, dims.row_stride}, {t.in.hidden_states, t.in.weight, t.in.bias, t.out});
  causal_conv1d::launch_forward(causal_conv1d::plan_for(dims, vector, method), dims, tensors, stream);
}

using bf16 = __nv_bfloat16;
template void causal_conv1d_forward(const CausalConv1dDims&, const CausalConv1dForward<float>&, cudaStream_t, Method);
template void causal_conv1d_forward(const CausalConv1dDims&, const CausalConv1dForward<bf16>&, cudaStream_t, Method);

namespace causal_conv1d {
template void launch_forward(const Plan&, const CausalConv1dDims&, const CausalConv1dForward<float>&, cudaStream_t);
template void launch_forward(const Plan&, const CausalConv1dDims&, const CausalConv1dForward<bf16>&, cudaStream_t);
}  // namespace causal_conv1d

}  // namespace assay::gpu
