// The state space scan, backward, first launch: the states between chunks, and the gradients of those.
//
// Computes   H_c, the state that enters chunk c, and Gamma_c, the gradient of the state that leaves it:
//              H_{c+1}     = exp(cum_l) [l ~ p] H_c + sum_j x_j (U_j B_j)^T           H_0: the initial state
//              Gamma_{c-1} = exp(cum_l) [l ~ p] Gamma_c + sum_i dy_i (E_i C_i)^T      the last Gamma: d_final_state
//            and d_initial_state, the gradient of H_0. Names as in ssd_scan_bwd_chunked.cu, U_j = u_j Delta_j
// Source     Mamba-2, the SSD algorithm; reference/ssd_scan_backward.cc
// Layout     both sequences [batch, chunks, heads, head_dim, state_size] T, compact
// Numerics   the running state in float; bf16 rounds U B and E C, and the states that are stored, once each
// Method     a block owns one tile of channels of one head in one of the directions and walks over its chunks, the
//            state in registers: nothing but the result is ever written. Two stages of cp.async; one warp prepares the
//            weights of the next chunk. Half of the blocks walk forward in time, half back
// Plan       256 threads; a warp holds 16 or 32 channels of every fourth or eighth 16 columns: 16 or 32 floats a
//            thread. bf16, N 128: two stages of 16 + 8 KB. Nano 30B (H 64): 128 blocks a batch row
// Traffic    x, d_y once, B and C once for each tile of channels (from L2: the blocks of a group walk together), both
//            sequences written once
// Limiter    few batch rows and heads: latency, seq_len / chunk steps in a row; else memory
#include "cuda/ssd_scan/backward_chunked.cuh"
#include "cuda/ssd_scan/backward_tiles.cuh"

namespace assay::gpu::ssd_scan {
namespace {

constexpr int kThreads = kStatesThreads, kWarps = kThreads / 32;

// Of a chunk; two stages lie one after the other.
template <class T>
struct Stage {
  T *keys, *values;  // B and x, or C and d_y: [slices][kQ] rows; kQ rows
  float* weights;    // [kQ]
  float* through;    // one
};

template <class T, int kQ, int kChannels, int kMaxN>
class Walk {
  static constexpr int kDown = kChannels >= 32 ? 2 : 1, kAcross = kWarps / kDown;
  static constexpr int kLefts = kChannels / 16 / kDown;  // 16 channels each
  static constexpr int kGroups = kMaxN / 16 / kAcross;   // 16 columns each, kAcross apart
  static_assert(kLefts >= 1 && kGroups >= 1);

 public:
  SIMT_DEV Walk(const SsdScanDims& dims, const SsdScanBackward<T>& t, const BackwardPlan& plan, bool back, T* states,
                int tile, const Stage<T>& stages)
      : dims_(dims), t_(t), plan_(plan), stages_(stages), back_(back), states_(states) {
    const int head_dim = static_cast<int>(dims.head_dim), tiles = (head_dim + kChannels - 1) / kChannels;
    const int heads = static_cast<int>(dims.heads);
    head_ = tile / tiles % heads;
    b_ = tile / tiles / heads;
    channel_ = tile % tiles * kChannels;
    width_ = head_dim - channel_ < kChannels ? head_dim - channel_ : kChannels;
    N_ = static_cast<int>(dims.state_size);
    chunks_ = static_cast<int>(plan.chunks);
    thread_ = static_cast<int>(threadIdx.x);
    lane_ = thread_ % 32;
    down_ = thread_ / 32 % kDown;
    across_ = thread_ / 32 / kDown;
  }

  SIMT_DEV void run() {
    start();
    // What the walk's last chunk adds leaves the row: the final state nobody needs, d_initial_state perhaps.
    const int steps = back_ && t_.d_initial_state != nullptr ? chunks_ : chunks_ - 1;
    if (steps > 0) fetch(0);
#pragma unroll 1
    for (int step = 0; step < chunks_; ++step) {
      store_state(step);
      if (step == steps) return;
      simt::cp_async_wait_all();
      __syncthreads();
      if (step + 1 < steps) fetch(step + 1);
      if (back_ && t_.z != nullptr) {
        multiply_by_gate(step);
        __syncthreads();
      }
      add_chunk(stage(step), length(step));
    }
    store_initial_gradient();
  }

 private:
  SIMT_DEV Stage<T> stage(int step) const {
    const int s = step % 2;
    return {stages_.keys + s * kQ * kMaxN, stages_.values + s * kQ * kSlice<T>, stages_.weights + s * kQ,
            stages_.through + s};
  }
  SIMT_DEV int chunk(int step) const { return back_ ? chunks_ - 1 - step : step; }
  SIMT_DEV int length(int step) const {
    const int left = static_cast<int>(dims_.seq_len) - chunk(step) * kQ;
    return left < kQ ? left : kQ;
  }
  SIMT_DEV std::int64_t first_token(int step) const { return b_ * dims_.seq_len + chunk(step) * kQ; }
  SIMT_DEV std::int64_t first_channel() const { return head_ * dims_.head_dim + channel_; }

  // body(m, k, channel, n, first of 16 x 16) for each of this thread's fragments.
  template <class Body>
  SIMT_DEV void for_each_block(Body body) {
    SIMT_UNROLL
    for (int m = 0; m < kLefts; ++m) {
      const int channel = (down_ * kLefts + m) * 16;
      if (channel >= width_) continue;
      SIMT_UNROLL
      for (int k = 0; k < kGroups; ++k) {
        const int n = (across_ + k * kAcross) * 16;
        if (n < N_) body(channel, n, state_[m][k]);
      }
    }
  }

  SIMT_DEV void start() {
    const std::int64_t row0 = b_ * dims_.heads * dims_.head_dim + first_channel();
    for_each_block([&](int channel, int n, float(&sums)[2][4]) {
      SIMT_UNROLL
      for (int q = 0; q < 4; ++q) {
        const std::int64_t at = (row0 + channel + lane_ / 4 + q / 2 * 8) * N_ + n + q % 2 * 8 + lane_ % 4 * 2;
        float& low = sums[q % 2][q / 2 * 2];
        float& high = sums[q % 2][q / 2 * 2 + 1];
        const void* const from = back_ ? t_.d_final_state : t_.initial_state.data;
        if (from == nullptr) {
          low = high = 0.0f;
        } else if (!back_ && t_.initial_state.is_bfloat16) {
          load_pair(static_cast<const __nv_bfloat16*>(from) + at, low, high);
        } else {
          load_pair(static_cast<const float*>(from) + at, low, high);
        }
      }
    });
  }

  SIMT_DEV void fetch(int step) {
    const Stage<T> stage = this->stage(step);
    const std::int64_t token = first_token(step);
    const std::int64_t group = head_ / (dims_.heads / dims_.groups);
    const std::int64_t keys_stride = back_ ? dims_.C_stride : dims_.B_stride;
    const std::int64_t values_stride = back_ ? dims_.heads * dims_.head_dim : dims_.x_stride;
    copy_rows(stage.keys, kQ, (back_ ? t_.C : t_.B) + token * keys_stride + group * N_, keys_stride, N_, kQ,
              length(step), thread_, kThreads);
    copy_rows(stage.values, kQ, (back_ ? t_.d_y : t_.x) + token * values_stride + first_channel(), values_stride,
              width_, kQ, length(step), thread_, kThreads);
    simt::cp_async_commit();
    if (thread_ >= 32) return;
    const Documents<kQ> documents(t_.seq_idx != nullptr ? t_.seq_idx + token : nullptr, chunk(step) == 0, length(step),
                                  lane_);
    const Steps<kQ> steps(dims_, t_, token, length(step), head_, lane_);
    SIMT_UNROLL
    for (int k = 0; k < kPerLane<kQ>; ++k) {
      const int i = lane_ * kPerLane<kQ> + k;
      if (i >= kQ) continue;
      stage.weights[i] =
          back_ ? steps.from_entering(documents, k, lane_) : steps.to_leaving(documents, k, lane_) * steps.delta[k];
    }
    if (lane_ == 0) {
      const bool crosses = planted<Break::scan_bwd_crosses_documents> && back_;
      const bool stops = planted<Break::scan_bwd_stops_at_chunk> && back_;
      *stage.through = stops ? 0.0f : crosses ? expf(steps.last) : steps.through(documents);
    }
  }

  // d_y silu(z), rounded as stored activations are.
  SIMT_DEV void multiply_by_gate(int step) {
    const int pieces = width_ / kPiece<T>;
    for (int i = thread_; i < length(step) * pieces; i += kThreads) {
      const int row = i / pieces, column = i % pieces * kPiece<T>;
      T* const p = element(stage(step).values, row, column);
      auto values = simt::load_vec<kPiece<T>>(p);
      const auto z =
          simt::load_vec<kPiece<T>>(t_.z + (first_token(step) + row) * dims_.z_stride + first_channel() + column);
      SIMT_UNROLL
      for (int e = 0; e < kPiece<T>; ++e) values[e] = from_float<T>(to_float(values[e]) * silu(to_float(z[e])));
      simt::store_vec(p, values);
    }
  }

  SIMT_DEV void add_chunk(const Stage<T>& stage, int length) {
    const float through = *stage.through;
    for_each_block([&](int, int, float(&sums)[2][4]) {
      SIMT_UNROLL
      for (int q = 0; q < 8; ++q) {
        float& value = sums[q / 4][q % 4];
        value = through == 0.0f ? 0.0f : through * value;  // a dropped one may be infinite
      }
    });
#pragma unroll 1
    for (int token = 0; token < length; token += 16) {
      Left<T> values[kLefts];
      SIMT_UNROLL
      for (int m = 0; m < kLefts; ++m) {
        const int channel = (down_ * kLefts + m) * 16;
        if (channel < width_) load_left_transposed(values[m], stage.values, channel, token, lane_);
      }
      float weights[4];
      load_pair(stage.weights + token + lane_ % 4 * 2, weights[0], weights[1]);
      load_pair(stage.weights + token + lane_ % 4 * 2 + 8, weights[2], weights[3]);
      SIMT_UNROLL
      for (int k = 0; k < kGroups; ++k) {
        const int n = (across_ + k * kAcross) * 16;
        if (n >= N_) continue;
        Right<T> keys[2];
        load_right_transposed(keys, stage.keys + n / kSlice<T> * kQ * kSlice<T>, n % kSlice<T>, token, lane_);
        SIMT_UNROLL
        for (int side = 0; side < 2; ++side) {
          scale(keys[side], weights);
          SIMT_UNROLL
          for (int m = 0; m < kLefts; ++m) {
            if ((down_ * kLefts + m) * 16 < width_) multiply_add(state_[m][k][side], values[m], keys[side]);
          }
        }
      }
    }
  }

  SIMT_DEV void store_state(int step) {
    T* const out = states_ + ((b_ * plan_.chunks + chunk(step)) * dims_.heads * dims_.head_dim + first_channel()) * N_;
    for_each_block([&](int channel, int n, float(&sums)[2][4]) {
      store_sums(out + static_cast<std::int64_t>(channel) * N_ + n, N_, sums, 16, lane_);
    });
  }

  SIMT_DEV void store_initial_gradient() {
    const std::int64_t row0 = b_ * dims_.heads * dims_.head_dim + first_channel();
    for_each_block([&](int channel, int n, float(&sums)[2][4]) {
      SIMT_UNROLL
      for (int q = 0; q < 8; ++q) sums[q / 4][q % 4] = rounded<T>(sums[q / 4][q % 4]);
      const std::int64_t at = (row0 + channel) * N_ + n;
      if (t_.initial_state.is_bfloat16) {
        store_sums(static_cast<__nv_bfloat16*>(t_.d_initial_state) + at, N_, sums, 16, lane_);
      } else {
        store_sums(static_cast<float*>(t_.d_initial_state) + at, N_, sums, 16, lane_);
      }
    });
  }

  const SsdScanDims& dims_;
  const SsdScanBackward<T>& t_;
  const BackwardPlan& plan_;
  const Stage<T>& stages_;
  bool back_;
  T* states_;
  std::int64_t b_;
  int head_, channel_, width_, N_, chunks_, thread_, lane_, down_, across_;
  float state_[kLefts][kGroups][2][4];
};

template <class T, int kQ, int kChannels, int kMaxN>
__global__ void __launch_bounds__(kThreads, 1)
    ssd_scan_backward_chunk_states_kernel(SsdScanDims dims, SsdScanBackward<T> t, BackwardPlan plan, T* entering,
                                          T* leaving_gradients) {
  SIMT_DYN_SMEM(raw);
  simt::Carver carver(raw);
  const Stage<T> stages{.keys = carver.take<T>(2 * kQ * kMaxN, 128),
                        .values = carver.take<T>(2 * kQ * kSlice<T>, 128),
                        .weights = carver.take<float>(2 * kQ),
                        .through = carver.take<float>(2)};
  const bool back = blockIdx.x % 2 != 0;
  Walk<T, kQ, kChannels, kMaxN>(dims, t, plan, back, back ? leaving_gradients : entering,
                                static_cast<int>(blockIdx.x / 2), stages)
      .run();
}

}  // namespace

template <class T>
void launch_chunk_states(const BackwardPlan& plan, const SsdScanDims& dims, const SsdScanBackward<T>& tensors,
                         T* entering, T* leaving_gradients, cudaStream_t stream) {
  visit_chunk<T>(plan, [&]<int kQ, int kChannels, int kMaxN>() {
    simt::launch(ssd_scan_backward_chunk_states_kernel<T, kQ, kChannels, kMaxN>,
                 {.grid = dim3(static_cast<unsigned>(2 * plan.tiles)),
                  .block = dim3(kThreads),
                  .smem = plan.states_shared_bytes,
                  .stream = stream},
                 dims, tensors, plan, entering, leaving_gradients);
  });
}

template void launch_chunk_states(const BackwardPlan&, const SsdScanDims&, const SsdScanBackward<float>&, float*,
                                  float*, cudaStream_t);
template void launch_chunk_states(const BackwardPlan&, const SsdScanDims&, const SsdScanBackward<__nv_bfloat16>&,
                                  __nv_bfloat16*, __nv_bfloat16*, cudaStream_t);

}  // namespace assay::gpu::ssd_scan
