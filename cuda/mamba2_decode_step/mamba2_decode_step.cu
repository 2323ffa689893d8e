// What a Mamba-2 mixer does with one token between in_proj and out_proj.
//
// Computes   for each channel c of x | B | C:  p = bias[c] + sum_j weight[c, j] * (conv_state[c, last taps - 1],
// new)[j],
//            rnd_T(silu(p)); conv_state[c] moves left by one column
//            for each head:  Delta = softplus(dt + dt_bias),  a = exp(Delta A)
//              h[p, n] = a h[p, n] + (B[n] Delta) x[p]          stored rounded to the cache's type
//              y[p]    = rnd_T(sum_n h[p, n] C[n] + D x[p])     from the h before that rounding
//            for each group:  v = y silu(z),  out = rnd_T(norm_weight * (v * rstd)),  rstd = 1 / sqrt(mean v^2 + eps)
// Source     the decode path of NeMo Automodel's NemotronV3Mamba2Mixer: causal_conv1d_update, selective_state_update
// and
//            the gated norm, here without the ways through memory between them
// Paths      decode
// Layout     z, x B C and dt are slices of one row of in_proj's output; both caches are updated in place
// Numerics   float; x, B, C and y are rounded to T where the three kernels store them. Every sum has the order of
// theirs:
//            a channel's taps oldest to newest from the bias; a row's sum each of eight lanes over its elements in
//            order, then three steps across the lanes; the squares 16 a thread in order, then over warps
// Plan       a block takes one group of one batch row: the heads that share B and C are those that are normed together,
//            so x, B, C, silu(z) and v never leave shared memory, and nothing is computed twice. 256 threads. First the
//            loads of the first rows of the state start; under their way come the convolution (16 bytes of conv_state
//            and of weights an access) and silu(z). Then the rows of the state, eight lanes each, 64 bytes a thread in
//            use and 64 more on their way. Shared memory: 8 bytes a channel and 8 a column, 5.3 KB for Nano. At most
//            128 registers a thread: two blocks and more a multiprocessor, so that one's loads run under another's norm
// Versions   naive (a block per group, a thread per channel, double sums; any sizes), block_per_group
// Cost       memory-bound. Compulsory: the state and conv_state read and written, z, xBC, dt read, out written for each
//            batch row; the parameters once. Nano 30B (H 64, P 64, G 8, N 128), float cache, batch 1: 4.4 MB, 1.4 us
//            at 3.2 TB/s. The three kernels move 2 % more and cost two launches more
// Limiter    up to 16 rows of Nano (8 blocks each) the blocks are fewer than the multiprocessors, and a block's own
//            530 KB decide; from then on memory
// Limits     block_per_group: taps = conv_len = 4, state_size <= 256, groups of at most 4,096 channels, 16-byte
// accesses;
//            everything else is naive
#include "cuda/common/check.h"
#include "cuda/common/math.cuh"
#include "cuda/common/planted.h"
#include "cuda/common/row_plan.h"
#include "cuda/common/team.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/mamba2_decode_step/mamba2_decode_step.cuh"

namespace assay::gpu {
namespace {

using namespace mamba2_decode_step_plan;

SIMT_DEV int place(const Layout& layout, int i) {
  return i / 4 % layout.quads * layout.pitch + i / (4 * layout.quads) * 4 + i % 4;
}

// What a block works on. Channels and columns of its group are counted from 0.
template <class T, class S>
struct Work {
  const Mamba2DecodeStepDims& dims;
  const Mamba2DecodeStep<T, S>& t;
  std::int64_t inner, conv_channels;  // as the dims say
  std::int64_t b, group, row;         // row of the caches
  int N, P, channels, heads;

  SIMT_DEV Work(const Mamba2DecodeStepDims& d, const Mamba2DecodeStep<T, S>& tensors)
      : dims(d),
        t(tensors),
        inner(d.heads * d.head_dim),
        conv_channels(inner + 2 * d.groups * d.state_size),
        b(blockIdx.x / d.groups),
        group(blockIdx.x % d.groups),
        row(t.state_rows != nullptr ? t.state_rows[b] : b),
        N(static_cast<int>(d.state_size)),
        P(static_cast<int>(d.head_dim)),
        channels(static_cast<int>(inner / d.groups)),
        heads(static_cast<int>(d.heads / d.groups)) {}

  SIMT_DEV const T* z() const { return t.projected + b * dims.row_stride + group * channels; }
  SIMT_DEV const T* xBC() const { return t.projected + b * dims.row_stride + inner; }
  SIMT_DEV T* out() const { return t.out + b * inner + group * channels; }
  SIMT_DEV S* state() const { return t.state + (row * dims.heads * P + group * channels) * N; }
  SIMT_DEV std::int64_t head(int i) const { return group * heads + i; }
  // The channel of xBC that is the group's i-th of x, B and C one after the other.
  SIMT_DEV std::int64_t conv_channel(int i) const {
    if (i < channels) return group * channels + i;
    const std::int64_t keys = planted<Break::step_keys_of_group_0> ? 0 : group * N, n = i - channels;
    return n < N ? inner + keys + n : inner + dims.groups * N + keys + n - N;
  }
  SIMT_DEV float delta(int i) const {
    const float dt = to_float(xBC()[conv_channels + head(i)]);
    return softplus(dt + t.dt_bias[head(i)]);
  }
  SIMT_DEV float decay(int i, float delta) const {
    return expf(delta * t.A[planted<Break::step_decay_of_first_head> ? head(0) : head(i)]);
  }
};

// ---- the plain version

// The convolution of one channel, which moves its state on.
template <class T, class S>
SIMT_DEV float convolve_plainly(const Work<T, S>& w, int i) {
  const std::int64_t c = w.conv_channel(i), past = w.dims.taps - 1, length = w.dims.conv_len;
  T* const state = w.t.conv_state + (w.row * w.conv_channels + c) * length;
  const T now = w.xBC()[c];
  float p = w.t.conv_bias != nullptr ? to_float(w.t.conv_bias[c]) : 0.0f;
  for (std::int64_t j = 0; j <= past; ++j) {
    p = fmaf(to_float(w.t.conv_weight[c * w.dims.taps + j]), to_float(j == past ? now : state[length - past + j]), p);
  }
  for (std::int64_t j = 0; j + 1 < length; ++j) state[j] = state[j + 1];
  if (length > 0) state[length - 1] = now;
  return to_float(from_float<T>(silu(p)));
}

template <class T, class S>
__global__ void __launch_bounds__(kThreads)
    mamba2_decode_step_naive_kernel(Mamba2DecodeStepDims dims, Mamba2DecodeStep<T, S> t) {
  SIMT_DYN_SMEM(raw);
  simt::Carver carver(raw);
  SIMT_SHARED(double[kThreads], squares);
  const Work<T, S> w(dims, t);
  const int thread = static_cast<int>(threadIdx.x);
  auto* const B = carver.take<float>(static_cast<unsigned>(w.N));
  auto* const C = carver.take<float>(static_cast<unsigned>(w.N), 4);
  if (w.row < 0) {
    for (int i = thread; i < w.channels; i += kThreads) w.out()[i] = from_float<T>(0.0f);
    return;
  }
  for (int n = thread; n < w.N; n += kThreads) {
    B[n] = convolve_plainly(w, w.channels + n);
    C[n] = convolve_plainly(w, w.channels + w.N + n);
  }
  __syncthreads();
  const auto gated = [&](int i) { return to_float(w.out()[i]) * silu(to_float(w.z()[i])); };  // out holds y
  double sum_of_squares = 0.0;
  for (int i = thread; i < w.channels; i += kThreads) {
    const int head = i / w.P;
    const float x = convolve_plainly(w, i), delta = w.delta(head), decay = w.decay(head, delta);
    S* const state = w.state() + static_cast<std::int64_t>(i) * w.N;
    double sum = 0.0;
    for (int n = 0; n < w.N; ++n) {
      const float h = to_float(state[n]) * decay + B[n] * delta * x;
      sum += static_cast<double>(h) * C[n];
      state[n] = from_float<S>(h);
    }
    w.out()[i] = from_float<T>(static_cast<float>(sum) + t.D[w.head(head)] * x);
    const double v = gated(i);
    sum_of_squares += v * v;
  }
  squares[thread] = sum_of_squares;
  __syncthreads();
  double total = 0.0;
  for (int i = 0; i < kThreads; ++i) total += squares[i];
  const float rstd = reciprocal_rms(static_cast<float>(total), w.channels, t.eps);
  for (int i = thread; i < w.channels; i += kThreads) {
    w.out()[i] = from_float<T>(to_float(t.norm_weight[w.group * w.channels + i]) * (gated(i) * rstd));
  }
}

// ---- block_per_group

// Neighbouring channels whose columns of conv_state fill 16 bytes.
template <class T>
inline constexpr int kConvChannels = 16 / static_cast<int>(sizeof(T)) / kTaps;

// The convolution of channels i, i + 1, ... of the group's x, B, C; their state moves on.
template <class T, class S>
SIMT_DEV simt::Vec<float, kConvChannels<T>> convolve(const Work<T, S>& w, int i) {
  constexpr int kWide = kConvChannels<T>;
  const std::int64_t c = w.conv_channel(i);
  T* const state = w.t.conv_state + (w.row * w.conv_channels + c) * kTaps;
  auto columns = simt::load_vec<kWide * kTaps>(state);
  const auto weights = simt::load_vec<kWide * kTaps>(w.t.conv_weight + c * kTaps);
  const auto now = simt::load_vec<kWide>(w.xBC() + c);
  simt::Vec<T, kWide> bias = {};
  if (w.t.conv_bias != nullptr) bias = simt::load_vec<kWide>(w.t.conv_bias + c);
  simt::Vec<float, kWide> value;
  SIMT_UNROLL
  for (int k = 0; k < kWide; ++k) {
    float p = w.t.conv_bias != nullptr ? to_float(bias[k]) : 0.0f;
    SIMT_UNROLL
    for (int j = 0; j < kTaps; ++j) {
      T& column = columns[k * kTaps + j];
      column = j + 1 < kTaps ? columns[k * kTaps + j + 1] : now[k];
      p = fmaf(to_float(weights[k * kTaps + j]), to_float(column), p);
    }
    value[k] = to_float(from_float<T>(silu(p)));
  }
  if (!planted<Break::step_conv_tail_stale> || i < w.channels) simt::store_vec(state, columns);
  return value;
}

// Piece i of `layout`: 4 * layout.quads neighbouring floats.
template <int kWidth>
SIMT_DEV void load_piece(const float* floats, const Layout& layout, int i, float (&out)[kWidth]) {
  SIMT_UNROLL
  for (int quad = 0; quad < kWidth / 4; ++quad) {
    const auto four = simt::load_vec<4>(floats + quad * layout.pitch + i * 4);
    SIMT_UNROLL
    for (int j = 0; j < 4; ++j) out[quad * 4 + j] = four[j];
  }
}
template <int kWidth>
SIMT_DEV void store_piece(float* floats, const Layout& layout, int i, const float (&in)[kWidth]) {
  SIMT_UNROLL
  for (int quad = 0; quad < kWidth / 4; ++quad) {
    simt::store_vec(floats + quad * layout.pitch + i * 4,
                    simt::Vec<float, 4>{{in[quad * 4], in[quad * 4 + 1], in[quad * 4 + 2], in[quad * 4 + 3]}});
  }
}

// A lane's part of rows first, first + 4, ... of the state.
template <class S, int kVectors, int kRows>
struct Part {
  static constexpr int kVec = 16 / static_cast<int>(sizeof(S)), kApart = kWarpSize / kLanes;
  simt::Vec<S, kVec> h[kRows][kVectors];

  // body(vector, its place in memory) for those that exist.
  template <class Body>
  SIMT_DEV void for_each(S* state, int first, int rows, int N, Body body) {
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    SIMT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      SIMT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const int p = first + r * kApart, n = (v * kLanes + lane) * kVec;
        if (p < rows && n < N) body(h[r][v], state + static_cast<std::int64_t>(p) * N + n);
      }
    }
  }
  SIMT_DEV void load(S* state, int first, int rows, int N) {
    for_each(state, first, rows, N, [](auto& vector, const S* p) { vector = simt::load_vec<kVec>(p); });
  }
  SIMT_DEV void store(S* state, int first, int rows, int N) {
    for_each(state, first, rows, N, [](const auto& vector, S* p) { simt::store_vec(p, vector); });
  }
};

// kVectors: Plan::vectors; kRows: rows_per_lane() of it.
template <class T, class S, int kVectors, int kRows>
__global__ void __launch_bounds__(kThreads, 2)
    mamba2_decode_step_kernel(Mamba2DecodeStepDims dims, Mamba2DecodeStep<T, S> t, int norm_threads) {
  constexpr int kVec = 16 / sizeof(S), kWide = kConvChannels<T>;
  constexpr int kNormVec = 16 / sizeof(T), kRowsPerWarp = kWarpSize / kLanes * kRows;
  constexpr Layout kKeys(kQuads<S>, kLanes * kVectors * kVec);
  SIMT_DYN_SMEM(raw);
  simt::Carver carver(raw);
  const Work<T, S> w(dims, t);
  const Layout gates(kQuads<T>, w.channels);
  auto* const x = carver.take<float>(static_cast<unsigned>(w.channels));
  auto* const gate = carver.take<float>(static_cast<unsigned>(gates.floats()));  // silu(z); becomes v
  auto* const B = carver.take<float>(kKeys.floats());
  auto* const C = carver.take<float>(kKeys.floats());
  auto* const delta = carver.take<float>(static_cast<unsigned>(w.heads));
  auto* const decay = carver.take<float>(static_cast<unsigned>(w.heads));
  SIMT_SHARED(float[kThreads / kWarpSize], warp_squares);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize, lane = thread % kLanes;
  const int vectors = w.channels / kNormVec;  // of the group's row of z and of out
  if (w.row < 0) {
    constexpr float kZeros[kNormVec] = {};
    for (int i = thread; i < vectors; i += kThreads) store(w.out() + i * kNormVec, kZeros);
    return;
  }

  // The state first: its way is the longest.
  const int row_in_warp = thread % kWarpSize / kLanes;
  Part<S, kVectors, kRows> part, next;
  part.load(w.state(), warp * kRowsPerWarp + row_in_warp, w.channels, w.N);

  const int conv_items = (w.channels + 2 * w.N) / kWide;
  for (int item = thread; item < conv_items + vectors; item += kThreads) {
    if (item < conv_items) {
      const int i = item * kWide, n = i - w.channels;
      float* const to = n < 0 ? x + i : n < w.N ? B + place(kKeys, n) : C + place(kKeys, n - w.N);
      simt::store_vec(to, convolve(w, i));
    } else {
      const int i = item - conv_items;
      float z[kNormVec];
      load(w.z() + i * kNormVec, z);
      SIMT_UNROLL
      for (int k = 0; k < kNormVec; ++k) z[k] = silu(z[k]);
      store_piece(gate, gates, i, z);
    }
  }
  for (int i = thread; i < w.heads; i += kThreads) {
    delta[i] = w.delta(i);
    decay[i] = w.decay(i, delta[i]);
  }
  __syncthreads();

  for (int base = warp * kRowsPerWarp; base < w.channels; base += kThreads / kWarpSize * kRowsPerWarp) {
    const int first = base + row_in_warp;
    next.load(w.state(), first + kThreads / kWarpSize * kRowsPerWarp, w.channels, w.N);
    float sum[kRows] = {}, row_x[kRows], row_delta[kRows], row_decay[kRows];
    SIMT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int p = first + r * part.kApart;
      if (p >= w.channels) continue;
      row_x[r] = x[p];
      row_delta[r] = delta[p / w.P];
      row_decay[r] = decay[p / w.P];
    }
    SIMT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int i = v * kLanes + lane;
      if (i * kVec >= w.N) continue;
      float keys[kVec], queries[kVec];
      load_piece(B, kKeys, i, keys);
      load_piece(C, kKeys, i, queries);
      SIMT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        if (first + r * part.kApart >= w.channels) continue;
        SIMT_UNROLL
        for (int j = 0; j < kVec; ++j) {
          S& element = part.h[r][v][j];
          const float updated = to_float(element) * row_decay[r] + keys[j] * row_delta[r] * row_x[r];
          element = from_float<S>(updated);
          sum[r] =
              fmaf(planted<Break::step_output_from_stored_state> ? to_float(element) : updated, queries[j], sum[r]);
        }
      }
    }
    part.store(w.state(), first, w.channels, w.N);
    SIMT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      SIMT_UNROLL
      for (int distance = kLanes / 2; distance > 0; distance /= 2) {
        sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], distance);
      }
      const int p = first + r * part.kApart;
      if (lane != 0 || p >= w.channels) continue;
      sum[r] += t.D[w.head(p / w.P)] * row_x[r];
      float& v = gate[place(gates, p)];
      const float y = to_float(from_float<T>(sum[r]));
      v = planted<Break::step_gate_after_norm> ? y : y * v;
    }
    part = next;
  }
  if (!planted<Break::step_sum_not_guarded>) __syncthreads();

  float squares = 0.0f;
  for (int i = thread; i < vectors && thread < norm_threads; i += norm_threads) {
    float v[kNormVec];
    load_piece(gate, gates, i, v);
    SIMT_UNROLL
    for (int j = 0; j < kNormVec; ++j) squares = fmaf(v[j], v[j], squares);
  }
  squares = warp_sum(squares);
  if (thread % kWarpSize == 0) warp_squares[warp] = squares;
  __syncthreads();
  float total = 0.0f;
  for (int i = 0; i < norm_threads / kWarpSize; ++i) total += warp_squares[i];
  const float rstd = reciprocal_rms(total, planted<Break::step_mean_over_all_heads> ? w.inner : w.channels, t.eps);
  for (int i = thread; i < vectors; i += kThreads) {
    float v[kNormVec], weight[kNormVec];
    load_piece(gate, gates, i, v);
    load(t.norm_weight + w.group * w.channels + i * kNormVec, weight);
    SIMT_UNROLL
    for (int j = 0; j < kNormVec; ++j) {
      v[j] = weight[j] * (v[j] * rstd);
      if (planted<Break::step_gate_after_norm>) v[j] *= silu(to_float(w.z()[i * kNormVec + j]));
    }
    store(w.out() + i * kNormVec, v);
  }
}

template <class T, class S>
void launch_planned(const Plan& plan, const simt::Launch& launch, const Mamba2DecodeStepDims& dims,
                    const Mamba2DecodeStep<T, S>& t) {
  with_vectors<S>(plan.vectors, [&]<int kVectors>() {
    simt::launch(mamba2_decode_step_kernel<T, S, kVectors, rows_per_lane(kVectors)>, launch, dims, t,
                 plan.norm_threads);
  });
}

}  // namespace

template <class T, class S>
void mamba2_decode_step(const Mamba2DecodeStepDims& dims, const Mamba2DecodeStep<T, S>& tensors, cudaStream_t stream,
                        Method method) {
  const auto& t = tensors;
  check_dims("mamba2_decode_step", dims);
  require(t.eps >= 0.0f && t.eps < HUGE_VALF, "mamba2_decode_step: eps = ", t.eps, "; want finite and >= 0");
  if (dims.batch == 0) return;
  require(
      t.projected && t.conv_weight && t.dt_bias && t.A && t.D && t.norm_weight && t.state && t.out &&
          (t.conv_state || dims.conv_len == 0),
      "mamba2_decode_step: projected, conv_weight, dt_bias, A, D, norm_weight, conv_state, state or out is null; want "
      "a pointer");
  const bool aligned =
      vector_width(1, {}, {t.projected, t.conv_weight, t.conv_bias, t.norm_weight, t.conv_state, t.state, t.out}) > 1;
  const Plan plan = mamba2_decode_step_plan::plan(dims, sizeof(T), sizeof(S), aligned, method);
  require(plan.blocks <= INT32_MAX, "mamba2_decode_step: batch * groups = ", plan.blocks, "; want at most 2^31 - 1");
  const simt::Launch launch{.grid = dim3(static_cast<unsigned>(plan.blocks)),
                            .block = dim3(kThreads),
                            .smem = plan.shared_bytes,
                            .stream = stream};
  if (plan.naive) {
    simt::launch(mamba2_decode_step_naive_kernel<T, S>, launch, dims, t);
  } else {
    launch_planned(plan, launch, dims, t);
  }
}

using bf16 = __nv_bfloat16;
template void mamba2_decode_step(const Mamba2DecodeStepDims&, const Mamba2DecodeStep<float, float>&, cudaStream_t,
                                 Method);
template void mamba2_decode_step(const Mamba2DecodeStepDims&, const Mamba2DecodeStep<float, bf16>&, cudaStream_t,
                                 Method);
template void mamba2_decode_step(const Mamba2DecodeStepDims&, const Mamba2DecodeStep<bf16, float>&, cudaStream_t,
                                 Method);
template void mamba2_decode_step(const Mamba2DecodeStepDims&, const Mamba2DecodeStep<bf16, bf16>&, cudaStream_t,
                                 Method);

}  // namespace assay::gpu
