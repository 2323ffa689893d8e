// What the kernels of the family share: rows of N neighbouring channels, weights, what lies before a token.
#pragma once

#include "cuda/causal_conv1d/causal_conv1d.cuh"
#include "cuda/common/vec.cuh"

namespace assay::gpu::causal_conv1d {

// Tokens before the present that an output needs.
SIMT_DEV std::int64_t past(const CausalConv1dDims& dims) { return dims.taps - 1; }

// N channels of a row in one access: an element, or 8 or 16 bytes, aligned as such.
template <int N, class T>
SIMT_DEV void load_row(const T* p, float (&out)[N]) {
  if constexpr (N == 1) {
    out[0] = to_float(__ldg(p));
  } else {
    const simt::Vec<T, N> row = simt::load_vec<N>(p);
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) out[i] = to_float(row[i]);
  }
}

template <int N, class T>
SIMT_DEV void store_row(T* p, const float (&in)[N]) {
  if constexpr (N == 1) {
    *p = from_float<T>(in[0]);
  } else {
    simt::Vec<T, N> row;
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) row[i] = from_float<T>(in[i]);
    simt::store_vec<N>(p, row);
  }
}

// The weights of N channels. Fewer than kMaxTaps taps are the last ones; `skip` in front do not count.
template <int N>
struct Weights {
  float tap[kMaxTaps][N];
  float bias[N];
  int skip;
};

// By 16-byte accesses where the taps of N channels fill them.
template <int kTaps, int N, class T>
SIMT_DEV void load_taps(const T* p, Weights<N>& w) {
  float values[N * kTaps];
  if constexpr (N > 1 && N * kTaps * sizeof(T) % 16 == 0) {
    load(p, values);
  } else {
    SIMT_UNROLL
    for (int i = 0; i < N * kTaps; ++i) values[i] = to_float(__ldg(p + i));
  }
  SIMT_UNROLL
  for (int j = 0; j < kTaps; ++j) {
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) w.tap[kMaxTaps - kTaps + j][i] = values[i * kTaps + j];
  }
}

template <int N, class T>
SIMT_DEV Weights<N> load_weights(const T* weight, const T* bias, std::int64_t taps, std::int64_t column) {
  Weights<N> w = {};
  w.skip = kMaxTaps - static_cast<int>(taps);
  const T* const p = weight + column * taps;
  switch (w.skip) {
    case 0:
      load_taps<4>(p, w);
      break;
    case 1:
      load_taps<3>(p, w);
      break;
    case 2:
      load_taps<2>(p, w);
      break;
    default:
      load_taps<1>(p, w);
  }
  if (bias != nullptr) load_row(bias + column, w.bias);
  return w;
}

// x at token t of batch row b; before the first token the initial state, or 0.
template <int N, class T>
SIMT_DEV void load_input(const CausalConv1dDims& dims, const CausalConv1dInputs<T>& in, std::int64_t b, std::int64_t t,
                         std::int64_t column, float (&row)[N]) {
  if (t >= 0) {
    load_row(in.hidden_states + (b * dims.seq_len + t) * dims.row_stride + column, row);
    return;
  }
  const bool kept = in.initial_state != nullptr && t >= -past(dims);
  SIMT_UNROLL
  for (int i = 0; i < N; ++i) {
    row[i] = kept ? to_float(__ldg(in.initial_state + (b * dims.channels + column + i + 1) * past(dims) + t)) : 0.0f;
  }
}

// The document of token t; -1 before the first token, which without seq_idx belongs to every document.
template <class T>
SIMT_DEV int document(const CausalConv1dDims& dims, const CausalConv1dInputs<T>& in, std::int64_t b, std::int64_t t) {
  if (in.seq_idx == nullptr) return 0;
  return t < 0 ? -1 : __ldg(in.seq_idx + b * dims.seq_len + t);
}

// p of N channels: one fma per tap that reads, oldest to newest, starting from the bias. rows[j]: what tap j reads.
template <int N>
SIMT_DEV void sum_taps(const Weights<N>& w, const float (*rows)[N], const bool (&reads)[kMaxTaps], float (&p)[N]) {
  SIMT_UNROLL
  for (int i = 0; i < N; ++i) p[i] = w.bias[i];
  SIMT_UNROLL
  for (int j = 0; j < kMaxTaps; ++j) {
    if (!reads[j]) continue;
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) p[i] = fmaf(w.tap[j][i], rows[j][i], p[i]);
  }
}

// p of one channel, by the definition: any number of taps.
template <class T>
SIMT_DEV float sum_taps_plainly(const CausalConv1dDims& dims, const CausalConv1dInputs<T>& in, std::int64_t b,
                                std::int64_t t, std::int64_t c) {
  float p = in.bias != nullptr ? to_float(in.bias[c]) : 0.0f;
  for (std::int64_t j = 0; j < dims.taps; ++j) {
    const std::int64_t from = t - past(dims) + j;
    if (document(dims, in, b, from) != document(dims, in, b, t)) continue;
    float x[1];
    load_input(dims, in, b, from, c, x);
    p = fmaf(to_float(in.weight[c * dims.taps + j]), x[0], p);
  }
  return p;
}

// Where a thread of a tiled kernel works.
struct Place {
  std::int64_t b, tile, column;
  bool inside;

  SIMT_DEV Place(std::int64_t batch, std::int64_t tiles, std::int64_t vectors, int width) {
    const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    column = n % vectors * width;
    tile = n / vectors % tiles;
    b = n / vectors / tiles;
    inside = b < batch;
  }
};

}  // namespace assay::gpu::causal_conv1d
