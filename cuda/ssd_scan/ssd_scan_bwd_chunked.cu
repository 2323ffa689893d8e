// The state space scan, backward, in chunks on tensor cores: three launches, no flags, no atomics.
//
// Computes   for a chunk of Q tokens with cum_i = sum_{m <= i} Delta_m A, entering state H [P, N], Gamma [P, N] the
//            gradient of the leaving one and, where there are documents, [i ~ j] = [tokens i and j lie in one
//            document], p the token before the chunk, l its last one; L_ij = exp(cum_i - cum_j) [i ~ j] for j <= i,
//            else 0; E_i = exp(cum_i) [i ~ p], u_j = exp(cum_l - cum_j) [j ~ l], e = exp(cum_l) [l ~ p]:
//              G_ij = C_i . B_j                                     once for all heads of a group
//              M_ij = (dy_i . x_j) L_ij Delta_j                     dG = sum of M over the heads of a group
//              Z_j  = sum_{i >= j} G_ij L_ij dy_i + u_j (Gamma B_j)
//              dx_j = Delta_j Z_j + D dy_j
//              dC_i = sum_j dG_ij B_j + sum over heads E_i (H^T dy_i)
//              dB_j = sum_i dG_ij C_i + sum over heads u_j Delta_j (Gamma^T x_j)
//              r_m  = sum_{j < m <= i} M_ij G_ij + sum_{i >= m} E_i dy_i . (H C_i)
//                     + sum_{j < m} u_j Delta_j x_j . (Gamma B_j) + e <Gamma, H>
//              dDelta_m = Z_m . x_m + A r_m,  dA = sum_m Delta_m r_m
//            r_m is the gradient of Delta_m A: all that passes over token m. The same as a difference of row and column
//            sums of M G would cancel
// Source     Mamba-2, the SSD algorithm; reference/ssd_scan_backward.cc. Q is the kernel's own
// Paths      train
// Layout     tokens a stride apart, 16-byte accesses but for dt; d_y and ungated_y compact
// Numerics   bf16 operands, float sums; float operands as three tf32 products. bf16 rounds, once each: dy silu(z), U B,
//            E C, H, Gamma, G L, dG; and the results. Delta, cum, decays, G, M, r in float. dD comes from dy silu(z)
//            before its rounding. Sums over heads and tokens have one order: repeated runs agree bit for bit
// Method     first launch: H and Gamma of every chunk (ssd_scan_bwd_states.cu), recomputed, so that forward keeps only
//            its inputs. Second (here): a block takes one chunk of one group and the group's heads one after the other,
//            in tiles of P' channels; dB, dC, G^T and dG^T stay in registers over all of them. Two warps share 16
//            tokens: 16-token blocks of G^T, 16 columns of dB and dC, 16 channels of Z alternate between them. Third:
//            sums of dA, ddt_bias, dD over chunks (ssd_scan_bwd.cu)
// Plan       threads 4 Q. bf16: Q and P' 64 for N <= 128, else 32; float: half of that. bf16, N 128: B, C, H and Gamma
//            16 KB each, x, dy and G L 8 KB each, 8 KB of sums: 96 of 99 KB (sm_120), one stage: H and Gamma of the
//            next tile are copied while Z is multiplied, x and dy while the steps of the next head are computed. 256
//            threads, one block a multiprocessor: 233 to 247 of 255 registers by architecture (G 16, dG 16, dB 32, dC
//            32, Z 16, operands of one product 16). Q 128 would halve the traffic of states, but dB, dC, G and dG alone
//            would fill the register file. Nano 30B (H 64, G 8), 8,192 tokens: 1,024 blocks
// Traffic    of a chunk and head, bf16, P 64, N 128: x and dy twice, 32 KB; dx 8 KB; H and Gamma written and read,
//            64 KB; B and C for each head in the first launch 32 KB, from L2. Of a chunk and group: B, C, dB, dC 64 KB.
//            Compulsory are 24 KB of the former and the latter: the states are what this costs
// Flops      of a chunk and head: 2 Q P N for each of H, Gamma, dC, dB, Z, and Q^2 P for each of M and Z: 6 MF at Q 64
// Limiter    memory: 100 KB for 6 MF. Few batch rows and heads: the first launch's walk over chunks
// Versions   see ssd_scan_bwd.cu
// Limits     head_dim and state_size multiples of 16, state_size <= 256; alignment as ssd_scan_backward.h says
#include "cuda/ssd_scan/backward_chunked.cuh"
#include "cuda/ssd_scan/backward_tiles.cuh"

namespace assay::gpu::ssd_scan {
namespace {

// What the block's threads share. Sums are of all tiles of a head.
template <class T>
struct Shared {
  T *B, *C;                            // [slices][kQ] rows
  T *H, *Gamma;                        // [slices][kChannels] rows
  T *x, *d_y;                          // kQ rows
  T* pairs;                            // kQ rows: G L of a head, row j, column i; at the end dG
  float *delta, *cum, *E, *u, *slope;  // [2][kQ], of this head and the next
  float* pair_sums;                    // [strips][strips][32]: of M G of blocks of 16 tokens j and 16 i, see sum_pairs
  float* pair_totals;                  // [strips][strips]
  float *to_state, *from_state, *direct;  // [2][kQ]: terms of r and dDelta, from each of a row's two warps
  float* states;                          // [warps]: of Gamma H
  float* d_D;                             // [warps][16 bytes' worth of channels][as many pieces], of a tile
  unsigned char* begin;                   // [kQ], where in the chunk a token's document begins
  int* zero;  // 0, which ptxas cannot know: else it keeps a tile's addresses across the loop over tiles, and spills
  int* continuing;  // this many tokens go on with the document of the token before the chunk
};

template <class T, int kQ, int kChannels, int kMaxN>
class ChunkGradients {
  static constexpr int kStrips = kQ / 16, kWarps = 2 * kStrips, kThreads = 32 * kWarps;
  static constexpr int kBlocks = (kStrips + 1) / 2;  // of G^T, 16 x 16, a warp
  static constexpr int kGroups = kMaxN / 32;         // of 16 columns of dB and dC, a warp
  static constexpr int kLefts = kChannels / 16;
  static constexpr int kOutputs = (kLefts + 1) / 2;  // 16 channels of Z each, a warp
  static_assert(kQ <= kSlice<T> && kChannels <= kSlice<T>);

 public:
  SIMT_DEV ChunkGradients(const SsdScanDims& dims, const SsdScanBackward<T>& t, const BackwardPlan& plan,
                          const T* entering, const T* leaving_gradients, float* partials, const Shared<T>& shared)
      : dims_(dims), t_(t), s_(shared), entering_(entering), leaving_gradients_(leaving_gradients) {
    const auto block = static_cast<std::int64_t>(blockIdx.x);
    group_ = static_cast<int>(block % dims.groups);
    chunk_ = static_cast<int>(block / dims.groups % plan.chunks);
    const std::int64_t b = block / dims.groups / plan.chunks;
    first_ = b * dims.seq_len + chunk_ * kQ;
    row_ = b * plan.chunks + chunk_;
    partials_ = partials + row_ * dims.heads * (2 + dims.head_dim);
    const int left = static_cast<int>(dims.seq_len) - chunk_ * kQ;
    length_ = left < kQ ? left : kQ;
    N_ = static_cast<int>(dims.state_size);
    thread_ = static_cast<int>(threadIdx.x);
    warp_ = thread_ / 32;
    lane_ = thread_ % 32;
    // The two warps of 16 tokens lie so that every scheduler gets the same share of the triangle.
    across_ = warp_ / kStrips;
    rows_ = 16 * (across_ == 0 ? warp_ : kWarps - 1 - warp_);
  }

  SIMT_DEV void run() {
    const int head_dim = static_cast<int>(dims_.head_dim), heads = static_cast<int>(dims_.heads / dims_.groups);
    const int first_head = group_ * heads, end_head = first_head + heads;
    copy_rows(s_.B, kQ, t_.B + first_ * dims_.B_stride + group_ * N_, dims_.B_stride, N_, kQ, length_, thread_,
              kThreads);
    copy_rows(s_.C, kQ, t_.C + first_ * dims_.C_stride + group_ * N_, dims_.C_stride, N_, kQ, length_, thread_,
              kThreads);
    copy_tokens(first_head, 0);
    copy_states(first_head, 0);
    if (thread_ == 0) *s_.zero = 0;
    if (warp_ == 1) {
      find_documents();
      compute_steps(first_head);
    }
    simt::cp_async_wait_all();
    __syncthreads();
    multiply_B_C();

#pragma unroll 1
    for (int head = first_head; head < end_head; ++head) {
      use_steps(head);
#pragma unroll 1
      for (int channel = 0; channel < head_dim; channel += kChannels) {
        const bool last_of_head = channel + kChannels >= head_dim, last = last_of_head && head + 1 == end_head;
        const int next_head = last_of_head ? head + 1 : head, next_channel = last_of_head ? 0 : channel + kChannels;
        width_ = width(channel);
        lane_ = thread_ % 32 + *s_.zero;  // see Shared
        first_tile_ = channel == 0;
        read_tokens(head, channel);
        add_states();
        if (t_.z != nullptr) __syncthreads();  // d_y is gated

        multiply_pairs();
        float Z[kOutputs][2][4];
        multiply_states(Z);
        __syncthreads();  // H and Gamma are free, G L is there

        if (!last) copy_states(next_head, next_channel);
        store_d_D(head, channel);
        multiply_pairs_d_y(Z);
        store_d_x(Z, head, channel);
        __syncthreads();  // x and d_y are free, the sums are there

        if (!last) copy_tokens(next_head, next_channel);
        if (warp_ == 0 && last_of_head) finish_steps(head);
        if (warp_ == 1 && last_of_head && !last) compute_steps(head + 1);
        if (!planted<Break::scan_bwd_copy_not_awaited>) simt::cp_async_wait_all();
        __syncthreads();
      }
    }
    finish_group();
  }

 private:
  SIMT_DEV int width(int channel) const {
    const int left = static_cast<int>(dims_.head_dim) - channel;
    return left < kChannels ? left : kChannels;
  }

  SIMT_DEV void copy_tokens(int head, int channel) {
    const std::int64_t first = head * dims_.head_dim + channel, stride = dims_.heads * dims_.head_dim;
    copy_rows(s_.x, kQ, t_.x + first_ * dims_.x_stride + first, dims_.x_stride, width(channel), kQ, length_, thread_,
              kThreads);
    copy_rows(s_.d_y, kQ, t_.d_y + first_ * stride + first, stride, width(channel), kQ, length_, thread_, kThreads);
  }
  SIMT_DEV void copy_states(int head, int channel) {
    const std::int64_t first = ((row_ * dims_.heads + head) * dims_.head_dim + channel) * N_;
    const bool early = planted<Break::scan_bwd_state_of_chunk_before> && chunk_ > 0;
    const std::int64_t before = early ? dims_.heads * dims_.head_dim * N_ : 0;
    const int rows = width(channel);
    copy_rows(s_.H, kChannels, entering_ + first - before, N_, N_, rows, rows, thread_, kThreads);
    copy_rows(s_.Gamma, kChannels, leaving_gradients_ + first, N_, N_, rows, rows, thread_, kThreads);
  }

  SIMT_DEV Documents<kQ> documents() const {
    return {t_.seq_idx != nullptr ? t_.seq_idx + first_ : nullptr, chunk_ == 0, length_, lane_};
  }
  SIMT_DEV void find_documents() const {
    const Documents<kQ> documents = this->documents();
    SIMT_UNROLL
    for (int k = 0; k < kPerLane<kQ>; ++k) {
      const int i = lane_ * kPerLane<kQ> + k;
      if (i < kQ) s_.begin[i] = static_cast<unsigned char>(documents.begin[k]);
    }
    if (lane_ == 0) *s_.continuing = documents.continuing;
  }
  SIMT_DEV void compute_steps(int head) const {
    const Documents<kQ> documents = this->documents();
    const Steps<kQ> steps(dims_, t_, first_, length_, head, lane_);
    SIMT_UNROLL
    for (int k = 0; k < kPerLane<kQ>; ++k) {
      const int i = lane_ * kPerLane<kQ> + k, to = head % 2 * kQ + i;
      if (i >= kQ) continue;
      s_.delta[to] = steps.delta[k];
      s_.slope[to] = steps.slope[k];
      s_.cum[to] = steps.cum[k];
      s_.E[to] = steps.from_entering(documents, k, lane_);
      s_.u[to] = steps.to_leaving(documents, k, lane_);
    }
  }
  SIMT_DEV void use_steps(int head) {
    delta_ = s_.delta + head % 2 * kQ;
    cum_ = s_.cum + head % 2 * kQ;
    E_ = s_.E + head % 2 * kQ;
    u_ = s_.u + head % 2 * kQ;
  }
  // exp(cum_l) [l ~ p]
  SIMT_DEV float through() const { return *s_.continuing == kQ ? E_[kQ - 1] : 0.0f; }

  // Adds to what the head's tiles before this one have left there; of one thread alone.
  SIMT_DEV void add(float* sum, float value) const { *sum = first_tile_ ? value : *sum + value; }

  // body(k, block of columns) for each of this warp's blocks of G^T: row block rows_ / 16, on and right of the
  // diagonal.
  template <class Body>
  SIMT_DEV void for_each_block(Body body) {
    SIMT_UNROLL
    for (int k = 0; k < kBlocks; ++k) {
      const int block = rows_ / 16 + across_ + 2 * k;
      if (block < kStrips) body(k, block);
    }
  }
  // body(k, column, its column in a slice of a tile, that slice's number) for 16 columns each of the state.
  template <class Body>
  SIMT_DEV void for_each_group(Body body) {
    SIMT_UNROLL
    for (int k = 0; k < kGroups; ++k) {
      const int n = 32 * k + 16 * across_;
      if (n < N_) body(k, n, 32 * k % kSlice<T> + 16 * across_, 32 * k / kSlice<T>);
    }
  }
  // body(k, channel) for 16 channels each of Z.
  template <class Body>
  SIMT_DEV void for_each_output(Body body) {
    SIMT_UNROLL
    for (int k = 0; k < kOutputs; ++k) {
      const int channel = (across_ + 2 * k) * 16;
      if (channel < width_) body(k, channel);
    }
  }

  // G^T = B C^T
  SIMT_DEV void multiply_B_C() {
    SIMT_UNROLL
    for (int k = 0; k < kBlocks; ++k) {
      SIMT_UNROLL
      for (int e = 0; e < 8; ++e) G_[k][e / 4][e % 4] = d_G_[k][e / 4][e % 4] = 0.0f;
    }
    SIMT_UNROLL
    for (int k = 0; k < kGroups; ++k) {
      SIMT_UNROLL
      for (int e = 0; e < 8; ++e) d_B_[k][e / 4][e % 4] = d_C_[k][e / 4][e % 4] = 0.0f;
    }
#pragma unroll 1
    for (int n = 0; n < N_; n += 16) {
      const int slice = n / kSlice<T> * kQ * kSlice<T>, column = n % kSlice<T>;
      Left<T> B;
      load_left(B, s_.B + slice, rows_, column, lane_);
      for_each_block([&](int k, int block) {
        Right<T> C[2];
        load_right(C, s_.C + slice, 16 * block, column, lane_);
        multiply_add(G_[k][0], B, C[0]);
        multiply_add(G_[k][1], B, C[1]);
      });
    }
  }

  // d_y through the gate, d_z, and each channel's sum of d_y silu(z) x.
  SIMT_DEV void read_tokens(int head, int channel) {
    constexpr int kPieces = kSlice<T> / kPiece<T>;  // a row; four rows a warp
    const std::int64_t channels = dims_.heads * dims_.head_dim;
    const int column = thread_ % kPieces * kPiece<T>;
    const std::int64_t first = head * dims_.head_dim + channel + column;
    float d_D[kPiece<T>] = {};
    for (int row = thread_ / kPieces; row < length_ && column < width_; row += kThreads / kPieces) {
      T* const p = element(s_.d_y, row, column);
      auto d_y = simt::load_vec<kPiece<T>>(p);
      const auto x = simt::load_vec<kPiece<T>>(element(s_.x, row, column));
      if (t_.z == nullptr) {
        SIMT_UNROLL
        for (int e = 0; e < kPiece<T>; ++e) d_D[e] = fmaf(to_float(d_y[e]), to_float(x[e]), d_D[e]);
        continue;
      }
      const std::int64_t token = first_ + row;
      const auto z = simt::load_vec<kPiece<T>>(t_.z + token * dims_.z_stride + first);
      const auto u = simt::load_vec<kPiece<T>>(t_.ungated_y + token * channels + first);
      simt::Vec<T, kPiece<T>> d_z;
      SIMT_UNROLL
      for (int e = 0; e < kPiece<T>; ++e) {
        const float incoming = to_float(d_y[e]), gate = to_float(z[e]);
        const Sigmoid sigmoid(gate);
        const float gated = incoming * (gate * sigmoid.value);
        d_z[e] = from_float<T>(incoming * to_float(u[e]) * silu_derivative(gate, sigmoid));
        d_y[e] = from_float<T>(gated);
        d_D[e] = fmaf(planted<Break::scan_bwd_skip_sum_rounded> ? to_float(d_y[e]) : gated, to_float(x[e]), d_D[e]);
      }
      simt::store_vec(t_.d_z + token * t_.strides.z + first, d_z);
      simt::store_vec(p, d_y);
    }
    if (t_.d_D == nullptr) return;
    SIMT_UNROLL
    for (int e = 0; e < kPiece<T>; ++e) {
      SIMT_UNROLL
      for (int distance = kPieces; distance < 32; distance *= 2) {
        d_D[e] += __shfl_xor_sync(0xffffffffu, d_D[e], distance);
      }
    }
    if (lane_ >= kPieces || column >= kChannels) return;
    SIMT_UNROLL
    for (int e = 0; e < kPiece<T>; ++e) s_.d_D[warp_ * kChannels + e * (kChannels / kPiece<T>)+lane_] = d_D[e];
  }
  SIMT_DEV void store_d_D(int head, int channel) const {
    if (t_.d_D == nullptr || thread_ >= width_) return;
    const int place = thread_ % kPiece<T> * (kChannels / kPiece<T>)+thread_ / kPiece<T>;
    float sum = 0.0f;
    SIMT_UNROLL
    for (int warp = 0; warp < kWarps; ++warp) sum += s_.d_D[warp * kChannels + place];
    partials_[head * (2 + dims_.head_dim) + 2 + channel + thread_] = sum;
  }

  // <Gamma, H>
  SIMT_DEV void add_states() const {
    constexpr int kPieces = kSlice<T> / kPiece<T>;
    const int column = thread_ % kPieces * kPiece<T>;
    float sum = 0.0f;
    for (int n = column; n < N_; n += kSlice<T>) {
      const int slice = n / kSlice<T> * kChannels * kSlice<T>;
      for (int row = thread_ / kPieces; row < width_; row += kThreads / kPieces) {
        const auto H = simt::load_vec<kPiece<T>>(element(s_.H + slice, row, column));
        const auto Gamma = simt::load_vec<kPiece<T>>(element(s_.Gamma + slice, row, column));
        SIMT_UNROLL
        for (int e = 0; e < kPiece<T>; ++e) sum = fmaf(to_float(H[e]), to_float(Gamma[e]), sum);
      }
    }
    SIMT_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (lane_ == 0) add(s_.states + warp_, sum);
  }

  SIMT_DEV void load_rows(Left<T> (&left)[kLefts], T* tile) const {
    SIMT_UNROLL
    for (int m = 0; m < kLefts; ++m) {
      if (16 * m < width_) load_left(left[m], tile, rows_, 16 * m, lane_);
    }
  }

  // M and G L of this warp's blocks.
  SIMT_DEV void multiply_pairs() {
    Left<T> x[kLefts];
    load_rows(x, s_.x);
    const int row = rows_ + lane_ / 4;
    const float cum_j[2] = {cum_[row], cum_[row + 8]}, delta_j[2] = {delta_[row], delta_[row + 8]};
    for_each_block([&](int k, int block) {
      float M[2][4] = {};
      SIMT_UNROLL
      for (int m = 0; m < kLefts; ++m) {
        if (16 * m >= width_) continue;
        Right<T> d_y[2];
        load_right(d_y, s_.d_y, 16 * block, 16 * m, lane_);
        multiply_add(M[0], x[m], d_y[0]);
        multiply_add(M[1], x[m], d_y[1]);
      }
      float weights[2][4];
      SIMT_UNROLL
      for (int side = 0; side < 2; ++side) {
        const int first = 16 * block + 8 * side + lane_ % 4 * 2;
        float cum_i[2];
        load_pair(cum_ + first, cum_i[0], cum_i[1]);
        const int begin_i[2] = {s_.begin[first], s_.begin[first + 1]};
        SIMT_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int j = row + e / 2 * 8;
          const bool counts = j <= first + e % 2 && j >= begin_i[e % 2];
          const float L = counts ? expf(fminf(cum_i[e % 2] - cum_j[e / 2], 0.0f)) : 0.0f;
          weights[side][e] = counts ? G_[k][side][e] * L : 0.0f;
          M[side][e] = counts ? M[side][e] * L * delta_j[e / 2] : 0.0f;
          d_G_[k][side][e] = M[side][e] + (planted<Break::scan_bwd_last_head_alone> ? 0.0f : d_G_[k][side][e]);
          M[side][e] = counts ? M[side][e] * G_[k][side][e] : 0.0f;
        }
        store_pair(element(s_.pairs, row, first), weights[side][0], weights[side][1]);
        store_pair(element(s_.pairs, row + 8, first), weights[side][2], weights[side][3]);
      }
      sum_pairs(M, block);
    });
  }

  // What a block K of 16 tokens j (rows) and 16 tokens i (columns) of M G adds to r of these tokens: a token m of the
  // rows gets sum_{j < m} of a = the sums over i, one of the columns sum_{i >= m} of b = the sums over j, one between
  // the total. On the diagonal a token m gets sum_{j < m <= i}, kept in the place of a.
  SIMT_DEV void sum_pairs(const float (&K)[2][4], int block) const {
    const int place = rows_ / 16 * kStrips + block;
    float* const sums = s_.pair_sums + place * 32;
    float a[2];
    if (16 * block == rows_) {
      SIMT_UNROLL
      for (int r = 0; r < 2; ++r) a[r] = 0.0f;
      SIMT_UNROLL
      for (int side = 0; side < 2; ++side) {
        SIMT_UNROLL
        for (int e = 0; e < 2; ++e) {
          // Sums over the rows up to this lane's, of the upper and of the lower eight.
          float past[2] = {K[side][e], K[side][2 + e]};
          SIMT_UNROLL
          for (int distance = 4; distance < 32; distance *= 2) {
            SIMT_UNROLL
            for (int r = 0; r < 2; ++r) {
              const float other = __shfl_up_sync(0xffffffffu, past[r], static_cast<unsigned>(distance));
              if (lane_ >= distance) past[r] += other;
            }
          }
          const float upper = __shfl_sync(0xffffffffu, past[0], 28 + lane_ % 4);
          SIMT_UNROLL
          for (int r = 0; r < 2; ++r) {
            const float before = __shfl_up_sync(0xffffffffu, past[r], 4);
            const float sum = (lane_ >= 4 ? before : 0.0f) + (r == 0 ? 0.0f : upper);
            if (8 * side + lane_ % 4 * 2 + e >= lane_ / 4 + 8 * r) a[r] += sum;
          }
        }
      }
    } else {
      SIMT_UNROLL
      for (int r = 0; r < 2; ++r) a[r] = K[0][2 * r] + K[0][2 * r + 1] + (K[1][2 * r] + K[1][2 * r + 1]);
    }
    SIMT_UNROLL
    for (int r = 0; r < 2; ++r) a[r] = sum_of_four(a[r]);
    if (lane_ % 4 == 0) {
      add(sums + lane_ / 4, a[0]);
      add(sums + lane_ / 4 + 8, a[1]);
    }
    if (16 * block == rows_) return;

    float total = a[0] + a[1];
    SIMT_UNROLL
    for (int distance = 4; distance < 32; distance *= 2) total += __shfl_xor_sync(0xffffffffu, total, distance);
    if (lane_ == 0) add(s_.pair_totals + place, total);
    SIMT_UNROLL
    for (int side = 0; side < 2; ++side) {
      SIMT_UNROLL
      for (int e = 0; e < 2; ++e) {
        float b = K[side][e] + K[side][2 + e];
        SIMT_UNROLL
        for (int distance = 4; distance < 32; distance *= 2) b += __shfl_xor_sync(0xffffffffu, b, distance);
        if (lane_ < 4) add(sums + 16 + 8 * side + lane_ * 2 + e, b);
      }
    }
  }
  // Over the lanes of a row.
  SIMT_DEV float sum_of_four(float value) const {
    value += __shfl_xor_sync(0xffffffffu, value, 1);
    return value + __shfl_xor_sync(0xffffffffu, value, 2);
  }
  SIMT_DEV void add_rows(float* sums, const float (&rows)[2]) const {
    SIMT_UNROLL
    for (int r = 0; r < 2; ++r) {
      const float sum = sum_of_four(rows[r]);
      if (lane_ % 4 == 0) add(sums + across_ * kQ + rows_ + lane_ / 4 + 8 * r, sum);
    }
  }

  // Everything that H and Gamma enter: of dC E_i (H^T dy_i), of dB u_j Delta_j (Gamma^T x_j), Z = u_j (Gamma B_j).
  SIMT_DEV void multiply_states(float (&Z)[kOutputs][2][4]) {
    const int row = rows_ + lane_ / 4;
    const float u[2] = {u_[row], u_[row + 8]}, delta[2] = {delta_[row], delta_[row + 8]};
    {
      Left<T> x[kLefts];
      load_rows(x, s_.x);
      for_each_group([&](int k, int, int column, int slice) {
        float product[2][4];
        multiply_rows(product, x, s_.Gamma + slice * kChannels * kSlice<T>, column);
        SIMT_UNROLL
        for (int q = 0; q < 8; ++q) {
          const int r = q % 4 / 2;
          if (u[r] != 0.0f) d_B_[k][q / 4][q % 4] = fmaf(u[r] * delta[r], product[q / 4][q % 4], d_B_[k][q / 4][q % 4]);
        }
      });
    }
    {
      Left<T> d_y[kLefts];
      load_rows(d_y, s_.d_y);
      const float E[2] = {E_[row], E_[row + 8]};
      float from_state[2] = {};
      for_each_group([&](int k, int, int column, int slice) {
        float product[2][4];
        multiply_rows(product, d_y, s_.H + slice * kChannels * kSlice<T>, column);
        SIMT_UNROLL
        for (int q = 0; q < 4; ++q) {  // side, row
          const int side = q / 2, r = q % 2;
          float C[2];
          load_pair(element(s_.C + slice * kQ * kSlice<T>, row + 8 * r, column + 8 * side + lane_ % 4 * 2), C[0], C[1]);
          SIMT_UNROLL
          for (int e = 0; e < 2; ++e) {
            const float value = E[r] != 0.0f ? E[r] * product[side][2 * r + e] : 0.0f;
            d_C_[k][side][2 * r + e] += value;
            from_state[r] = fmaf(value, C[e], from_state[r]);
          }
        }
      });
      add_rows(s_.from_state, from_state);
    }
    SIMT_UNROLL
    for (int k = 0; k < kOutputs; ++k) {
      SIMT_UNROLL
      for (int q = 0; q < 8; ++q) Z[k][q / 4][q % 4] = 0.0f;
    }
#pragma unroll 1
    for (int n = 0; n < N_; n += 16) {
      const int slice = n / kSlice<T>, column = n % kSlice<T>;
      Left<T> B;
      load_left(B, s_.B + slice * kQ * kSlice<T>, rows_, column, lane_);
      for_each_output([&](int k, int channel) {
        Right<T> Gamma[2];
        load_right(Gamma, s_.Gamma + slice * kChannels * kSlice<T>, channel, column, lane_);
        multiply_add(Z[k][0], B, Gamma[0]);
        multiply_add(Z[k][1], B, Gamma[1]);
      });
    }
    float to_state[2] = {};
    for_each_output([&](int k, int channel) {
      SIMT_UNROLL
      for (int q = 0; q < 8; ++q) {
        float& value = Z[k][q / 4][q % 4];
        value = u[q % 4 / 2] != 0.0f ? value * u[q % 4 / 2] : 0.0f;
      }
      add_products(to_state, Z[k], channel);
    });
    SIMT_UNROLL
    for (int r = 0; r < 2; ++r) to_state[r] *= delta[r];
    add_rows(s_.to_state, to_state);
  }
  // 16 columns of rows times a tile of states.
  SIMT_DEV void multiply_rows(float (&product)[2][4], const Left<T> (&rows)[kLefts], T* states, int column) const {
    SIMT_UNROLL
    for (int q = 0; q < 8; ++q) product[q / 4][q % 4] = 0.0f;
    SIMT_UNROLL
    for (int m = 0; m < kLefts; ++m) {
      if (16 * m >= width_) continue;
      Right<T> right[2];
      load_right_transposed(right, states, column, 16 * m, lane_);
      multiply_add(product[0], rows[m], right[0]);
      multiply_add(product[1], rows[m], right[1]);
    }
  }
  // Of 16 channels of Z with those of x, by row.
  SIMT_DEV void add_products(float (&sums)[2], const float (&Z)[2][4], int channel) const {
    SIMT_UNROLL
    for (int q = 0; q < 4; ++q) {
      const int side = q / 2, r = q % 2;
      float x[2];
      load_pair(element(s_.x, rows_ + lane_ / 4 + 8 * r, channel + 8 * side + lane_ % 4 * 2), x[0], x[1]);
      sums[r] = fmaf(Z[side][2 * r], x[0], sums[r]);
      sums[r] = fmaf(Z[side][2 * r + 1], x[1], sums[r]);
    }
  }

  // Z += sum_{i >= j} G_ij L_ij dy_i
  SIMT_DEV void multiply_pairs_d_y(float (&Z)[kOutputs][2][4]) {
#pragma unroll 1
    for (int i = rows_; i < kQ; i += 16) {
      Left<T> weights;
      load_left(weights, s_.pairs, rows_, i, lane_);
      for_each_output([&](int k, int channel) {
        Right<T> d_y[2];
        load_right_transposed(d_y, s_.d_y, channel, i, lane_);
        multiply_add(Z[k][0], weights, d_y[0]);
        multiply_add(Z[k][1], weights, d_y[1]);
      });
    }
  }

  SIMT_DEV void store_d_x(float (&Z)[kOutputs][2][4], int head, int channel0) {
    const int row = rows_ + lane_ / 4;
    const float delta[2] = {delta_[row], delta_[row + 8]};
    float direct[2] = {};
    for_each_output([&](int k, int channel) {
      add_products(direct, Z[k], channel);
      const std::int64_t first = head * dims_.head_dim + channel0 + channel;
      SIMT_UNROLL
      for (int q = 0; q < 4; ++q) {
        const int side = q / 2, r = q % 2, column = 8 * side + lane_ % 4 * 2;
        float d_y[2];
        load_pair(element(s_.d_y, row + 8 * r, channel + column), d_y[0], d_y[1]);
        SIMT_UNROLL
        for (int e = 0; e < 2; ++e) {
          float& value = Z[k][side][2 * r + e];
          value *= delta[r];
          if (t_.D.data != nullptr) {
            value = fmaf(scalar_at(t_.D, t_.D_per_channel ? first + column + e : head), d_y[e], value);
          }
        }
      }
      store_sums(t_.d_x + (first_ + rows_) * t_.strides.x + first, t_.strides.x, Z[k], length_ - rows_, lane_);
    });
    add_rows(s_.direct, direct);
  }

  // One warp: r, d_dt, and the chunk's terms of d_A and d_dt_bias.
  SIMT_DEV void finish_steps(int head) const {
    constexpr int kCount = kPerLane<kQ>, kBlockLanes = 16 / kCount;
    const int first = lane_ * kCount, block = first / 16;
    const bool inside = first < kQ;
    float before[kCount], after[kCount], block_before[kCount], block_after[kCount], r[kCount];
    float states = 0.0f, between = 0.0f;
    for (int warp = 0; warp < kWarps; ++warp) states += s_.states[warp];
    for (int j = 0; j < block && inside; ++j) {
      for (int i = block + 1; i < kStrips; ++i) between += s_.pair_totals[j * kStrips + i];
    }
    const float e = through();
    states = e != 0.0f ? e * states : 0.0f;
    SIMT_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const int m = first + k, in_block = m % 16;
      before[k] = inside ? s_.to_state[m] + s_.to_state[kQ + m] : 0.0f;
      after[k] = inside ? s_.from_state[m] + s_.from_state[kQ + m] : 0.0f;
      block_before[k] = block_after[k] = 0.0f;
      for (int i = block + 1; i < kStrips && inside; ++i) {
        block_before[k] += s_.pair_sums[(block * kStrips + i) * 32 + in_block];
      }
      for (int j = 0; j < block && inside; ++j) {
        block_after[k] += s_.pair_sums[(j * kStrips + block) * 32 + 16 + in_block];
      }
      r[k] = inside ? s_.pair_sums[(block * kStrips + block) * 32 + in_block] + between + states : 0.0f;
    }
    sum_before<32>(before, lane_);
    sum_from<32>(after, lane_);
    sum_before<kBlockLanes>(block_before, lane_);
    sum_from<kBlockLanes>(block_after, lane_);
    float d_A = 0.0f, d_bias = 0.0f;
    SIMT_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const int m = first + k;
      if (m >= length_) continue;
      r[k] += block_before[k] + block_after[k] + (before[k] + after[k]);
      if (planted<Break::scan_bwd_token_misses_own_decay>) r[k] -= s_.from_state[m] + s_.from_state[kQ + m];
      const float d_delta = fmaf(t_.A[head], r[k], s_.direct[m] + s_.direct[kQ + m]);
      const float d_dt = d_delta * s_.slope[head % 2 * kQ + m];
      store_d_dt(t_, first_ + m, head, d_dt);
      d_A = fmaf(delta_[m], r[k], d_A);
      d_bias += d_dt;
    }
    SIMT_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) {
      d_A += __shfl_xor_sync(0xffffffffu, d_A, distance);
      d_bias += __shfl_xor_sync(0xffffffffu, d_bias, distance);
    }
    if (lane_ != 0) return;
    float* const sums = partials_ + head * (2 + dims_.head_dim);
    sums[0] = planted<Break::scan_bwd_decay_gradient_sign> ? -d_A : d_A;
    sums[1] = d_bias;
  }

  // dB += dG^T C, dC += dG B
  SIMT_DEV void finish_group() {
    const int row = rows_ + lane_ / 4;
    for_each_block([&](int k, int block) {
      SIMT_UNROLL
      for (int q = 0; q < 4; ++q) {
        const int side = q / 2, r = q % 2;
        store_pair(element(s_.pairs, row + 8 * r, 16 * block + 8 * side + lane_ % 4 * 2), d_G_[k][side][2 * r],
                   d_G_[k][side][2 * r + 1]);
      }
    });
    __syncthreads();
#pragma unroll 1
    for (int i = rows_; i < kQ; i += 16) {
      Left<T> d_G;
      load_left(d_G, s_.pairs, rows_, i, lane_);
      add_group(d_B_, d_G, s_.C, i);
    }
#pragma unroll 1
    for (int j = 0; j <= rows_; j += 16) {
      Left<T> d_G;
      load_left_transposed(d_G, s_.pairs, rows_, j, lane_);
      add_group(d_C_, d_G, s_.B, j);
    }
    for_each_group([&](int k, int n, int, int) {
      const std::int64_t token = first_ + rows_, column = group_ * dims_.state_size + n;
      store_sums(t_.d_B + token * t_.strides.B + column, t_.strides.B, d_B_[k], length_ - rows_, lane_);
      store_sums(t_.d_C + token * t_.strides.C + column, t_.strides.C, d_C_[k], length_ - rows_, lane_);
    });
  }
  SIMT_DEV void add_group(float (&sums)[kGroups][2][4], const Left<T>& left, T* tile, int depth) {
    for_each_group([&](int k, int, int column, int slice) {
      Right<T> right[2];
      load_right_transposed(right, tile + slice * kQ * kSlice<T>, column, depth, lane_);
      multiply_add(sums[k][0], left, right[0]);
      multiply_add(sums[k][1], left, right[1]);
    });
  }

  const SsdScanDims& dims_;
  const SsdScanBackward<T>& t_;
  const Shared<T>& s_;
  const T *entering_, *leaving_gradients_;
  float* partials_;           // of this chunk
  std::int64_t first_, row_;  // the chunk's first token of all, its number of all
  int group_, chunk_, length_, N_, thread_, warp_, lane_;
  int rows_, across_;  // the first of this warp's tokens; 0 or 1
  const float *delta_, *cum_, *E_, *u_;
  int width_;        // of the tile of channels
  bool first_tile_;  // of its head
  float G_[kBlocks][2][4], d_G_[kBlocks][2][4];
  float d_B_[kGroups][2][4], d_C_[kGroups][2][4];
};

template <class T, int kQ, int kChannels, int kMaxN>
__global__ void __launch_bounds__(4 * kQ, 1)
    ssd_scan_backward_chunked_kernel(SsdScanDims dims, SsdScanBackward<T> t, BackwardPlan plan, const T* entering,
                                     const T* leaving_gradients, float* partials) {
  SIMT_DYN_SMEM(raw);
  simt::Carver carver(raw);
  constexpr unsigned kStrips = kQ / 16, kWarps = 2 * kStrips, row = kSlice<T>, rows = kMaxN;
  Shared<T> shared;
  shared.B = carver.take<T>(kQ * rows, 128);
  shared.C = carver.take<T>(kQ * rows, 128);
  shared.H = carver.take<T>(kChannels * rows, 128);
  shared.Gamma = carver.take<T>(kChannels * rows, 128);
  shared.x = carver.take<T>(kQ * row, 128);
  shared.d_y = carver.take<T>(kQ * row, 128);
  shared.pairs = carver.take<T>(kQ * row, 128);
  shared.delta = carver.take<float>(2 * kQ);
  shared.cum = carver.take<float>(2 * kQ);
  shared.E = carver.take<float>(2 * kQ);
  shared.u = carver.take<float>(2 * kQ);
  shared.slope = carver.take<float>(2 * kQ);
  shared.to_state = carver.take<float>(2 * kQ);
  shared.from_state = carver.take<float>(2 * kQ);
  shared.direct = carver.take<float>(2 * kQ);
  shared.pair_sums = carver.take<float>(kStrips * kStrips * 32);
  shared.d_D = carver.take<float>(kWarps * kChannels);
  shared.pair_totals = carver.take<float>(kStrips * kStrips, 4);
  shared.states = carver.take<float>(kWarps, 4);
  shared.continuing = carver.take<int>(1, 4);
  shared.zero = carver.take<int>(1, 4);
  shared.begin = carver.take<unsigned char>(kQ, 4);
  ChunkGradients<T, kQ, kChannels, kMaxN>(dims, t, plan, entering, leaving_gradients, partials, shared).run();
}

}  // namespace

template <class T>
void launch_backward_chunked(const BackwardPlan& plan, const SsdScanDims& dims, const SsdScanBackward<T>& tensors,
                             cudaStream_t stream) {
  auto* const entering = static_cast<T*>(tensors.workspace);
  T* const leaving_gradients = entering + plan.states;
  auto* const partials =
      reinterpret_cast<float*>(static_cast<unsigned char*>(tensors.workspace) + plan.state_bytes(sizeof(T)));
  launch_chunk_states(plan, dims, tensors, entering, leaving_gradients, stream);
  visit_chunk<T>(plan, [&]<int kQ, int kChannels, int kMaxN>() {
    simt::launch(ssd_scan_backward_chunked_kernel<T, kQ, kChannels, kMaxN>,
                 {.grid = dim3(static_cast<unsigned>(plan.blocks)),
                  .block = dim3(4 * kQ),
                  .smem = plan.shared_bytes,
                  .stream = stream},
                 dims, tensors, plan, entering, leaving_gradients, partials);
  });
  launch_sums(dims, tensors, partials, plan.rows, stream);
}

template void launch_backward_chunked(const BackwardPlan&, const SsdScanDims&, const SsdScanBackward<float>&,
                                      cudaStream_t);
template void launch_backward_chunked(const BackwardPlan&, const SsdScanDims&, const SsdScanBackward<__nv_bfloat16>&,
                                      cudaStream_t);

}  // namespace assay::gpu::ssd_scan
