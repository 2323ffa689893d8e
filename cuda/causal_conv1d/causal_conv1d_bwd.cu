// Causal depthwise convolution, backward.
//
// Computes   p as in the forward; dp[t] = d_out[t] * silu'(p[t]), or d_out[t]; 0 where seq_idx < 0; never rounded
//            d_x[t, c]      = sum_j weight[c, j] * dp[t + (taps - 1) - j, c], inside the document of t;
//                             plus d_final_state[c, i] where column i of the final state copies x[t, c]
//            d_initial_state: the same for t = -(taps - 1) .. -1
//            d_weight[c, j] = sum_{b, t} dp[t, c] * x[t - (taps - 1) + j, c],  d_bias[c] = sum_{b, t} dp[t, c]
// Source     the derivative of causal_conv1d_fwd.cu. Where seq_idx < 0 the true one, 0; upstream's kernel differs
// Paths      train
// Layout     as the forward's; d_x may have its own row stride (a slice of in_proj's output gradient)
// Numerics   float; p recomputed; d_x one fma per tap from 0, newest token last read to first, rounded once.
//            d_weight, d_bias: a tile of 128 tokens sums its own from the first to the last, then column_sum adds the
//            tiles: an order fixed by batch and seq_len; rounded once. No atomics
// Method     a thread owns 4 channels and walks a tile and the 3 tokens after it, whose dp the tile's last d_x need:
//            x, dp and the sums stay in registers
// Versions   naive (a thread per d_x, then a thread per weight; double sums; any taps), tile_by_element,
//            tile_by_vector (taps <= 4)
// Registers  sm_90a: 158 of 255 (rows of x 7 * 4, of dp 7 * 4, d_out 4 * 4, weights 20, sums 20, addresses);
//            384 threads an SM, each with 8 loads of 8 (bf16) or 16 bytes in flight: 24 KiB and more. A limit of 168
//            would spill elsewhere
// Cost       memory-bound. Compulsory: tokens * channels * sizeof(T) * (2 read, 1 written). A tile adds 6 rows of x and
//            3 of d_out, 5 rows' worth of weights, and 5 floats a channel written and read back as partial sums:
//            34 / 384 = 8.9 % in bfloat16, 24 / 384 = 6.3 % in float
// Limits     channels <= 2^30
#include <algorithm>

#include "cuda/causal_conv1d/window.cuh"
#include "cuda/common/check.h"
#include "cuda/common/column_sum.h"
#include "cuda/common/math.cuh"
#include "cuda/common/planted.h"
#include "cuda/common/row_plan.h"

namespace assay::gpu {
namespace causal_conv1d {
namespace {

constexpr int kBatch = 4;  // tokens whose rows are loaded together
constexpr int kVecBackward = 4;

// Column of the final state that copies token t, or < 0.
SIMT_DEV std::int64_t final_column(const CausalConv1dDims& dims, std::int64_t t) {
  return t - (dims.seq_len - past(dims));
}

template <class T>
SIMT_DEV float dp_plainly(const CausalConv1dDims& dims, const CausalConv1dBackward<T>& t, std::int64_t b,
                          std::int64_t token, std::int64_t c) {
  if (document(dims, t.in, b, token) < 0) return 0.0f;
  const float d_out = to_float(t.d_out[(b * dims.seq_len + token) * dims.channels + c]);
  if (!t.in.silu) return d_out;
  const float p = sum_taps_plainly(dims, t.in, b, token, c);
  return d_out * silu_derivative(p, Sigmoid(p));
}

// A thread per token and channel, the initial state's columns being tokens -(taps - 1) .. -1.
template <class T>
__global__ void __launch_bounds__(kThreads)
    causal_conv1d_backward_naive_kernel(CausalConv1dDims dims, CausalConv1dBackward<T> t) {
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x, reach = past(dims);
  const std::int64_t before = t.d_initial_state != nullptr ? reach : 0, tokens = before + dims.seq_len;
  for (std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       n < dims.batch * tokens * dims.channels; n += threads) {
    const std::int64_t c = n % dims.channels, token = n / dims.channels % tokens - before;
    const std::int64_t b = n / dims.channels / tokens;
    double sum = 0.0;
    for (std::int64_t reader = token < 0 ? 0 : token; reader <= token + reach && reader < dims.seq_len; ++reader) {
      if (document(dims, t.in, b, token) != document(dims, t.in, b, reader)) continue;
      const float weight = to_float(t.in.weight[c * dims.taps + token + reach - reader]);
      sum += static_cast<double>(weight) * dp_plainly(dims, t, b, reader, c);
    }
    const std::int64_t column = final_column(dims, token);
    if (t.d_final_state != nullptr && column >= 0) {
      sum += to_float(t.d_final_state[(b * dims.channels + c) * reach + column]);
    }
    T* const out = token >= 0 ? t.d_hidden_states + (b * dims.seq_len + token) * t.d_row_stride + c
                              : t.d_initial_state + (b * dims.channels + c) * reach + token + reach;
    *out = from_float<T>(static_cast<float>(sum));
  }
}

// A thread per channel and tap; the tap after the last is the bias.
template <class T>
__global__ void __launch_bounds__(kThreads)
    causal_conv1d_d_weight_naive_kernel(CausalConv1dDims dims, CausalConv1dBackward<T> t) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t c = n / (dims.taps + 1), j = n % (dims.taps + 1);
  if (c >= dims.channels || (j == dims.taps && t.d_bias == nullptr)) return;
  double sum = 0.0;
  for (std::int64_t b = 0; b < dims.batch; ++b) {
    for (std::int64_t token = 0; token < dims.seq_len; ++token) {
      float x[1] = {1.0f};
      if (j < dims.taps) {
        const std::int64_t from = token - past(dims) + j;
        if (document(dims, t.in, b, from) != document(dims, t.in, b, token)) continue;
        load_input(dims, t.in, b, from, c, x);
      }
      sum += static_cast<double>(dp_plainly(dims, t, b, token, c)) * x[0];
    }
  }
  (j == dims.taps ? t.d_bias[c] : t.d_weight[c * dims.taps + j]) = from_float<T>(static_cast<float>(sum));
}

// Where the tiles leave their sums: d_weight [batch * tiles, channels * taps], d_bias [batch * tiles, channels].
struct Partials {
  float *d_weight, *d_bias;
};

template <class T, int kVec>
__global__ void __launch_bounds__(kThreads, 2)
    causal_conv1d_backward_tile_kernel(CausalConv1dDims dims, CausalConv1dBackward<T> t, std::int64_t tiles,
                                       Partials partials) {
  const Place at(dims.batch, tiles, dims.channels / kVec, kVec);
  if (!at.inside) return;
  const std::int64_t first = at.tile * kTileTokens;
  const std::int64_t last = first + kTileTokens < dims.seq_len ? first + kTileTokens : dims.seq_len;
  const Weights<kVec> w = load_weights<kVec>(t.in.weight, t.in.bias, dims.taps, at.column);

  // Index r + kPast is token + r of the step below; before it stand the three tokens before.
  float x[kPast + kBatch][kVec] = {}, dp[kPast + kBatch][kVec] = {}, d_out[kBatch][kVec] = {};
  int documents[kPast + kBatch] = {};
  float d_weight[kMaxTaps][kVec] = {}, d_bias[kVec] = {};
  SIMT_UNROLL
  for (int i = 0; i < kPast; ++i) {
    if (i < w.skip) continue;
    load_input(dims, t.in, at.b, first - kPast + i, at.column, x[i]);
    documents[i] = document(dims, t.in, at.b, first - kPast + i);
  }
  for (std::int64_t token = first; token < last + kPast; token += kBatch) {
    SIMT_UNROLL
    for (int r = 0; r < kBatch; ++r) {
      if (token + r >= last + kPast || token + r >= dims.seq_len) continue;
      load_input(dims, t.in, at.b, token + r, at.column, x[kPast + r]);
      load_row(t.d_out + (at.b * dims.seq_len + token + r) * dims.channels + at.column, d_out[r]);
      documents[kPast + r] = document(dims, t.in, at.b, token + r);
    }
    SIMT_UNROLL
    for (int r = 0; r < kBatch; ++r) {
      if (token + r >= last + kPast) continue;
      float(&now)[kVec] = dp[kPast + r];
      const bool counts = token + r < dims.seq_len && documents[kPast + r] >= 0;
      bool reads[kMaxTaps];
      SIMT_UNROLL
      for (int j = 0; j < kMaxTaps; ++j) reads[j] = j >= w.skip && documents[r + j] == documents[r + kPast];
      if (counts && t.in.silu) {
        float p[kVec];
        sum_taps(w, x + r, reads, p);
        SIMT_UNROLL
        for (int i = 0; i < kVec; ++i) {
          const float z = planted<Break::silu_derivative_of_input> ? x[kPast + r][i] : p[i];
          now[i] = d_out[r][i] * silu_derivative(z, Sigmoid(z));
        }
      } else {
        SIMT_UNROLL
        for (int i = 0; i < kVec; ++i) now[i] = counts ? d_out[r][i] : 0.0f;
      }
      const bool lost = planted<Break::last_tile_not_summed> && tiles > 1 && at.tile == tiles - 1;
      if (counts && token + r < last && !lost) {
        SIMT_UNROLL
        for (int i = 0; i < kVec; ++i) {
          SIMT_UNROLL
          for (int j = 0; j < kMaxTaps; ++j) {
            if (reads[j]) d_weight[j][i] = fmaf(now[i], x[r + j][i], d_weight[j][i]);
          }
          d_bias[i] += now[i];
        }
      }

      // Token `from`, three before, has now met all tokens that read it.
      const std::int64_t from = token + r - kPast;
      const bool own = from >= first, state = from < 0 && from >= -past(dims) && t.d_initial_state != nullptr;
      if (!own && !state) continue;
      float sum[kVec] = {};
      SIMT_UNROLL
      for (int j = kPast; j >= 0; --j) {
        if (j < w.skip || documents[r + kPast - j] != documents[r]) continue;
        SIMT_UNROLL
        for (int i = 0; i < kVec; ++i) sum[i] = fmaf(w.tap[j][i], dp[r + kPast - j][i], sum[i]);
      }
      const std::int64_t column = final_column(dims, from), first_state = at.b * dims.channels + at.column;
      if (t.d_final_state != nullptr && column >= 0) {
        for (int i = 0; i < kVec; ++i) {
          sum[i] += to_float(t.d_final_state[(first_state + i) * past(dims) + column]);
        }
      }
      if (own) {
        store_row(t.d_hidden_states + (at.b * dims.seq_len + from) * t.d_row_stride + at.column, sum);
      } else {
        for (int i = 0; i < kVec; ++i) {
          t.d_initial_state[(first_state + i + 1) * past(dims) + from] = from_float<T>(sum[i]);
        }
      }
    }
    SIMT_UNROLL
    for (int k = 0; k < kPast; ++k) {
      SIMT_UNROLL
      for (int i = 0; i < kVec; ++i) {
        x[k][i] = x[k + kBatch][i];
        dp[k][i] = dp[k + kBatch][i];
      }
      documents[k] = documents[k + kBatch];
    }
  }

  const std::int64_t tile = at.b * tiles + at.tile, first_sum = tile * dims.channels + at.column;
  SIMT_UNROLL
  for (int i = 0; i < kVec; ++i) {
    float* const sums = partials.d_weight + (first_sum + i) * dims.taps;
    if (w.skip == 0 && kVec > 1) {
      const float taps[kMaxTaps] = {d_weight[0][i], d_weight[1][i], d_weight[2][i], d_weight[3][i]};
      store_row(sums, taps);
      continue;
    }
    SIMT_UNROLL
    for (int j = 0; j < kMaxTaps; ++j) {
      if (j >= w.skip) sums[j - w.skip] = d_weight[j][i];
    }
  }
  store_row(partials.d_bias + first_sum, d_bias);
}

}  // namespace

template <class T>
void launch_backward(const Plan& plan, const CausalConv1dDims& dims, const CausalConv1dBackward<T>& tensors,
                     cudaStream_t stream) {
  const auto launch_for = [&](std::int64_t threads) {
    return simt::Launch{.grid = dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)),
                        .block = dim3(kThreads),
                        .stream = stream};
  };
  if (plan.variant == Variant::naive) {
    const std::int64_t tokens = dims.seq_len + (tensors.d_initial_state != nullptr ? dims.past() : 0);
    const std::int64_t results = dims.batch * tokens * dims.channels;
    if (results > 0) {
      simt::launch(causal_conv1d_backward_naive_kernel<T>, launch_for(std::min(results, kMaxBlocks * kThreads)), dims,
                   tensors);
    }
    simt::launch(causal_conv1d_d_weight_naive_kernel<T>, launch_for(dims.channels * (dims.taps + 1)), dims, tensors);
    return;
  }
  const std::int64_t count = dims.batch * plan.tiles, elements = count * dims.channels;
  const Partials partials{tensors.workspace, tensors.workspace + elements * dims.taps};
  if (dims.batch > 0) {
    if (plan.variant == Variant::tile_by_vector) {
      simt::launch(causal_conv1d_backward_tile_kernel<T, kVecBackward>, launch_for(elements / kVecBackward), dims,
                   tensors, plan.tiles, partials);
    } else {
      simt::launch(causal_conv1d_backward_tile_kernel<T, 1>, launch_for(elements), dims, tensors, plan.tiles, partials);
    }
  }
  column_sum(partials.d_weight, count, dims.channels * dims.taps, tensors.d_weight, stream);
  if (tensors.d_bias != nullptr) column_sum(partials.d_bias, count, dims.channels, tensors.d_bias, stream);
}

}  // namespace causal_conv1d

template <class T>
void causal_conv1d_backward(const CausalConv1dDims& dims, const CausalConv1dBackward<T>& tensors, cudaStream_t stream,
                            Method method) {
  const char* const function = "causal_conv1d_backward";
  const auto& t = tensors;
  causal_conv1d::check_dims(function, dims);
  causal_conv1d::check_states(function, dims, t.in.initial_state || t.d_final_state || t.d_initial_state, t.in.seq_idx);
  require(t.d_row_stride >= dims.channels, function, ": d_row_stride = ", t.d_row_stride,
          "; want >= channels = ", dims.channels);
  require(t.d_weight, function, ": d_weight is null; want a pointer");
  require((t.in.bias == nullptr) == (t.d_bias == nullptr), function, ": bias and d_bias; want both or neither");
  require(!t.d_initial_state || t.in.initial_state, function, ": d_initial_state without initial_state; want both");
  require(dims.batch == 0 || (t.in.weight && t.workspace), function, ": weight or workspace is null; want a pointer");
  require(dims.batch == 0 || dims.seq_len == 0 || (t.in.hidden_states && t.d_out && t.d_hidden_states), function,
          ": hidden_states, d_out or d_hidden_states is null; want a pointer");
  const int vector =
      vector_width(sizeof(T), {dims.channels, dims.row_stride, t.d_row_stride},
                   {t.in.hidden_states, t.in.weight, t.in.bias, t.d_out, t.d_hidden_states, t.workspace});
  causal_conv1d::launch_backward(causal_conv1d::plan_for(dims, vector, method), dims, tensors, stream);
}

using bf16 = __nv_bfloat16;
template void causal_conv1d_backward(const CausalConv1dDims&, const CausalConv1dBackward<float>&, cudaStream_t, Method);
template void causal_conv1d_backward(const CausalConv1dDims&, const CausalConv1dBackward<bf16>&, cudaStream_t, Method);

namespace causal_conv1d {
template void launch_backward(const Plan&, const CausalConv1dDims&, const CausalConv1dBackward<float>&, cudaStream_t);
template void launch_backward(const Plan&, const CausalConv1dDims&, const CausalConv1dBackward<bf16>&, cudaStream_t);
}  // namespace causal_conv1d

}  // namespace assay::gpu
