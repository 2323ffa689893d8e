// The state space scan, forward, in chunks on tensor cores: one launch, parallel over time, chained by look-back.
//
// Computes   for a chunk of Q tokens with cum_i = sum_{m <= i} Delta_m A, entering state H [P, N] and, where there are
//            documents, [i ~ j] = [tokens i and j lie in one document], p the token before the chunk, l its last one:
//              G_ij = C_i . B_j                                     once for all heads of a group
//              y_i  = sum_{j <= i} G_ij exp(cum_i - cum_j) Delta_j [i ~ j] x_j + exp(cum_i) [i ~ p] (H C_i) + D x_i
//              H'   = exp(cum_l) [l ~ p] H + sum_j x_j (U_j B_j)^T,  U_j = exp(cum_l - cum_j) Delta_j [j ~ l]
// Source     Mamba-2, the SSD algorithm; reference/ssd_scan.cc. Q is the kernel's own: exact results do not depend on
// it Paths      train, prefill Layout     x, dt, B, C, z: tokens a stride apart, 16-byte accesses but for dt and z; y
// compact Numerics   bf16 operands, float sums; float operands as three tf32 products. Delta, cum, decays, G, states in
// float.
//            bf16 rounds U B, the weights of x_j in y_i, and H for H C: each once; and y. The state that is passed on
//            stays float. Everything has one order: repeated runs agree bit for bit
// Method     a block takes one chunk of one group, and the group's heads one after the other, in tiles of P' channels.
//            Chunks are drawn in order of time by an atomic ticket, so a block waits for earlier tickets alone. For
//            each head: the chunk's own increment from x and B; then warp by warp, without a block barrier, the piece
//            of H that the same warp of the chunk before has published, H' = decay H + increment, published at once;
//            then H C, G and x for y. While a block waits for one head, other blocks work on others: a wave over chunks
//            and heads. G stays in registers, as the left operand it will become
// Plan       threads 2 Q: a warp owns 16 tokens. G is lower triangular: warps take rows so that every scheduler gets
//            the same share. bf16: Q 128, P' 32 for N <= 128; else Q 64, P' 32 or 16. float: Q 32, P' 16. (P' 64 and,
//            for float, Q 64 need a few registers more than there are.) Shared memory, bf16, N 128: B 32, C 32, x 16, H
//            8 KB and 1.8 KB of steps: 90 of 99 KB (sm_120), one stage: copies of next tile of x start when y has left.
//            256 threads of at most 255 registers, one block a multiprocessor. Nano 30B (H 64, G 8), 8,192 tokens:
//            512 blocks of equal work
//            With the norm behind it (ssd_scan_normed.h) the block keeps y of all heads of its chunk, 128 KB for Nano.
//            x comes where y will be, so the next tile is on its way during this one's products. At the end a warp
//            norms its 16 tokens, z of two of them on their way together. 202 KB in all for Nano; Q 64 where that, or
//            a wider group, does not fit
// Traffic    compulsory (x, B, C, dt read once; y and the final state written once) and the states between chunks,
//            written once and read once: 8 P N bytes for each chunk and head, in the order of the registers. With the
//            norm z and out take the place of y: 1.02 of compulsory, one group of Nano, 1,024 tokens, without those
//            states; the scan, then the norm, 1.53
// Limiter    one batch row: the chain of chunks, a flag and 32 KB through L2 for each; from a few rows on memory
// Versions   see ssd_scan_fwd.cu
// Limits     head_dim and state_size multiples of 16, state_size <= 256; alignment as the plan says
#include "cuda/common/planted.h"
#include "cuda/common/team.cuh"
#include "cuda/ssd_scan/fragments.cuh"
#include "cuda/ssd_scan/ssd_scan.cuh"

namespace assay::gpu::ssd_scan {

// The workspace: flags, all zero at the start, and the states between chunks.
struct Exchange {
  unsigned* ticket;
  unsigned* flags;  // [tile of channels, chunk, warp]: slices of the state that enters the next chunk
  float* states;    // [tile of channels, chunk] in the order of the sums' registers
};

namespace {

constexpr int kClearThreads = 256;

__global__ void __launch_bounds__(kClearThreads) clear_kernel(unsigned* words, std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    words[i] = 0;
  }
}

// What a thread of the chunk's block shares with the others.
template <class T, int kQ>
struct Shared {
  T *B, *C;                // [slices][kQ] rows
  T* x;                    // kQ rows of one tile of channels, or with a norm [slices][kQ] rows of all; becomes y
  T* H;                    // [slices][channels] rows
  float *delta, *cum, *U;  // [kQ], of a head
  unsigned char* begin;    // [kQ], where in the chunk a token's document begins
  int* continuing;         // this many tokens go on with the document of the token before the chunk
};

// Copies `rows` rows of `width` elements, `stride` apart, to slices of a tile; rows beyond `valid` become zero.
template <class T, int kThreads>
SIMT_DEV void copy_rows(T* tile, int rows, const T* from, std::int64_t stride, int width, int valid, int thread) {
  const int pieces = width / kPiece<T>;
  for (int i = thread; i < rows * pieces; i += kThreads) {
    const int row = i / pieces, column = i % pieces * kPiece<T>;
    T* const to = element(tile + column / kSlice<T> * rows * kSlice<T>, row, column % kSlice<T>);
    simt::cp_async16(to, row < valid ? from + row * stride + column : from, row < valid);
  }
}

template <class T, int kQ, int kChannels, bool kNormed>
class Chunk {
  static constexpr int kThreads = 2 * kQ, kWarps = kQ / 16;
  // The state's tile [kChannels, slice] over warps: kDown x kAcross of them.
  static constexpr int kDown = kChannels >= 32 ? 2 : 1, kAcross = kWarps / kDown;
  static constexpr int kLefts = kChannels / 16 / kDown;       // 16 channels each
  static constexpr int kPairs = kSlice<T> / kAcross / 16;     // 16 columns of the state each
  static constexpr int kPiecesOfState = kLefts * kPairs * 2;  // of four floats, a thread and slice
  static constexpr int kPerLane = kQ / 32;
  static_assert(kPairs >= 1 && kLefts >= 1);

 public:
  SIMT_DEV Chunk(const SsdScanDims& dims, const SsdScanForward<T>& t, const SsdScanNorm<T>& norm,
                 const Exchange& exchange, int slices, int chunks, int ticket, const Shared<T, kQ>& shared)
      : dims_(dims), t_(t), norm_(norm), exchange_(exchange), s_(shared), slices_(slices), chunks_(chunks) {
    const int groups = static_cast<int>(dims.groups), batch = static_cast<int>(dims.batch);
    chunk_ = ticket / (batch * groups);
    b_ = ticket / groups % batch;
    group_ = ticket % groups;
    thread_ = static_cast<int>(threadIdx.x);
    warp_ = thread_ / 32;
    lane_ = thread_ % 32;
    first_ = b_ * dims.seq_len + chunk_ * kQ;
    const int left = static_cast<int>(dims.seq_len) - chunk_ * kQ;
    length_ = left < kQ ? left : kQ;
    // Warps w and w + 4 share a scheduler: their rows of the triangle have the same total.
    rows_ = 16 * (warp_ < 4 || kWarps <= 4 ? warp_ : kWarps + 3 - warp_);
  }

  SIMT_DEV void run() {
    const int N = static_cast<int>(dims_.state_size);
    const int heads = static_cast<int>(dims_.heads / dims_.groups), head_dim = static_cast<int>(dims_.head_dim);
    const int first_head = group_ * heads, end_head = first_head + heads;
    copy_rows<T, kThreads>(s_.B, kQ, t_.B + first_ * dims_.B_stride + group_ * N, dims_.B_stride, N, length_, thread_);
    const int C_group = planted<Break::scan_C_of_group_0> ? 0 : group_;
    copy_rows<T, kThreads>(s_.C, kQ, t_.C + first_ * dims_.C_stride + C_group * N, dims_.C_stride, N, length_, thread_);
    copy_x(first_head * head_dim);
    if (warp_ == 0) {
      find_documents();
      compute_steps(first_head);
    }
    simt::cp_async_wait_all();
    __syncthreads();
    multiply_C_B();

#pragma unroll 1
    for (int head = first_head; head < end_head; ++head) {
#pragma unroll 1
      for (int channel = head * head_dim; channel < (head + 1) * head_dim; channel += kChannels) {
        if (channel > first_head * head_dim) {
          if (!planted<Break::scan_copy_not_awaited>) simt::cp_async_wait_all();
          __syncthreads();
        }
        const bool last_of_head = channel + kChannels == (head + 1) * head_dim,
                   last = channel + kChannels == end_head * head_dim;
        if (kNormed && !last) copy_x(channel + kChannels);
        pass_state(channel);
        if (!planted<Break::scan_state_not_awaited>) __syncthreads();  // H is there

        float y[kChannels / 8][4] = {};
        if (has_entering_state()) multiply_C_H(y);
        multiply_G_x(y, channel);
        add_skip(y, head, channel);
        __syncthreads();  // x, H and the steps are free
        store_y(y, channel);
        if (!kNormed && !last) copy_x(channel + kChannels);
        if (warp_ == 0 && last_of_head && !last) compute_steps(head + 1);
      }
    }
    if constexpr (kNormed) norm_rows();
  }

 private:
  // Swaps the last two bits: a quarter warp's rows of 64 bytes then lie in distinct banks.
  SIMT_DEV int spread(int row) const { return (row & ~3) | (row & 1) << 1 | (row >> 1 & 1); }
  SIMT_DEV bool has_entering_state() const { return chunk_ > 0 || t_.initial_state.data != nullptr; }

  // x, later y, at a row of the chunk and a channel of the tile that begins at channel0, counted over all heads.
  SIMT_DEV T* x_tile(int channel0) const {
    if constexpr (!kNormed) return s_.x;
    return s_.x + first_channel(channel0) / kSlice<T> * kQ * kSlice<T>;
  }
  SIMT_DEV int x_column(int channel0) const {
    if constexpr (!kNormed) return 0;
    return first_channel(channel0) % kSlice<T>;
  }
  SIMT_DEV int first_channel(int channel0) const {
    return channel0 - group_ * static_cast<int>(dims_.heads / dims_.groups * dims_.head_dim);
  }

  // The rows of x that this warp owns: their former content was this warp's y, or nothing.
  SIMT_DEV void copy_x(int channel) {
    const T* const from = t_.x + first_ * dims_.x_stride + channel;
    constexpr int kPieces = kChannels / kPiece<T>;
    for (int i = lane_; i < 16 * kPieces; i += 32) {
      const int row = rows_ + spread(i / kPieces), column = i % kPieces * kPiece<T>;
      simt::cp_async16(element(x_tile(channel), row, x_column(channel) + column),
                       row < length_ ? from + row * dims_.x_stride + column : from, row < length_);
    }
    simt::cp_async_commit();
  }

  // Over the warp's lanes up to this one: combine is associative.
  template <class Number, class Combine>
  SIMT_DEV Number scan(Number value, Combine combine) const {
    SIMT_UNROLL
    for (int distance = 1; distance < 32; distance *= 2) {
      const Number other = __shfl_up_sync(0xffffffffu, value, static_cast<unsigned>(distance));
      if (lane_ >= distance) value = combine(other, value);
    }
    return value;
  }

  // One warp. Tokens past the end lie in the last document.
  SIMT_DEV void find_documents() {
    int begins[kPerLane], begin = 0, first = kQ;
    SIMT_UNROLL
    for (int k = 0; k < kPerLane; ++k) {
      const int i = lane_ * kPerLane + k;
      if (t_.seq_idx != nullptr && i < length_) {
        const bool starts_row = chunk_ == 0 && i == 0;
        const std::int32_t before = starts_row ? (planted<Break::scan_row_always_continues> ? t_.seq_idx[first_] : 0)
                                               : t_.seq_idx[first_ + i - 1];
        if (t_.seq_idx[first_ + i] != before) {
          begin = i;
          first = first < i ? first : i;
        }
      }
      begins[k] = begin;
    }
    const auto larger = [](int a, int b) { return a > b ? a : b; };
    const int last = scan(begin, larger), before = __shfl_up_sync(0xffffffffu, last, 1);
    SIMT_UNROLL
    for (int k = 0; k < kPerLane; ++k) {
      s_.begin[lane_ * kPerLane + k] = static_cast<unsigned char>(lane_ > 0 ? larger(begins[k], before) : begins[k]);
    }
    first = scan(first, [](int a, int b) { return a < b ? a : b; });
    if (lane_ == 31) *s_.continuing = first;
    __syncwarp();
  }

  // One warp: delta, cum and U of a head. Tokens past the end have delta 0.
  SIMT_DEV void compute_steps(int head) {
    const float A = t_.A[planted<Break::scan_decay_of_first_head> ? group_ * (dims_.heads / dims_.groups) : head];
    float delta[kPerLane], sum[kPerLane], total = 0.0f;
    SIMT_UNROLL
    for (int k = 0; k < kPerLane; ++k) {
      const int i = lane_ * kPerLane + k;
      delta[k] = i < length_ ? step_size(dims_, t_, first_ + i, head) : 0.0f;
      if (planted<Break::scan_decay_of_next_token>) sum[k] = total;
      total += i < length_ ? delta[k] * A : 0.0f;
      if (!planted<Break::scan_decay_of_next_token>) sum[k] = total;
    }
    const float before = __shfl_up_sync(0xffffffffu, scan(total, [](float a, float b) { return a + b; }), 1);
    SIMT_UNROLL
    for (int k = 0; k < kPerLane; ++k) sum[k] += lane_ > 0 ? before : 0.0f;
    const float last = __shfl_sync(0xffffffffu, sum[kPerLane - 1], 31);
    const int last_begin = s_.begin[kQ - 1];
    simt::Vec<float, kPerLane> deltas, sums, weights;
    SIMT_UNROLL
    for (int k = 0; k < kPerLane; ++k) {
      const bool remembered = lane_ * kPerLane + k >= last_begin;
      deltas[k] = delta[k];
      sums[k] = sum[k];
      weights[k] = remembered ? expf(fminf(last - sum[k], 0.0f)) * delta[k] : 0.0f;
      if (planted<Break::scan_increment_not_decayed>) weights[k] = remembered ? delta[k] : 0.0f;
    }
    simt::store_vec(s_.delta + lane_ * kPerLane, deltas);
    simt::store_vec(s_.cum + lane_ * kPerLane, sums);
    simt::store_vec(s_.U + lane_ * kPerLane, weights);
  }

  // G, this warp's 16 rows: the columns up to the diagonal.
  SIMT_DEV void multiply_C_B() {
    SIMT_UNROLL
    for (int k = 0; k < kQ / 16; ++k) {
      SIMT_UNROLL
      for (int e = 0; e < 8; ++e) G_[k][e / 4][e % 4] = 0.0f;
    }
#pragma unroll 1
    for (int n = 0; n < dims_.state_size; n += 16) {
      const int slice = n / kSlice<T>, column = n % kSlice<T>;
      T* const B = s_.B + slice * kQ * kSlice<T>;
      Left<T> C;
      load_left(C, s_.C + slice * kQ * kSlice<T>, rows_, column, lane_);
      SIMT_UNROLL
      for (int k = 0; k < kQ / 16; ++k) {
        if (16 * k > rows_) continue;
        Right<T> pair[2];
        load_right(pair, B, 16 * k, column, lane_);
        multiply_add(G_[k][0], C, pair[0]);
        multiply_add(G_[k][1], C, pair[1]);
      }
    }
  }

  // The state of channels channel0, ..., counted over all heads.
  SIMT_DEV void pass_state(int channel0) {
    const int N = static_cast<int>(dims_.state_size);
    const std::int64_t row0 = b_ * dims_.heads * dims_.head_dim + channel0;
    const int down = warp_ % kDown, across = warp_ / kDown;
    const float decay = *s_.continuing == kQ ? expf(s_.cum[kQ - 1]) : 0.0f;
    const std::int64_t link = row0 / kChannels * (chunks_ - 1) + chunk_;  // of the state that this chunk publishes
    const auto piece = [&](std::int64_t from, int slice, int i) {
      return exchange_.states + (((from * slices_ + slice) * kWarps + warp_) * kPiecesOfState + i) * 128 + lane_ * 4;
    };
#pragma unroll 1
    for (int slice = 0; slice < slices_; ++slice) {
      float sum[kLefts][kPairs][2][4] = {};
      T* const B = s_.B + slice * kQ * kSlice<T>;
#pragma unroll 1
      for (int token = 0; token < length_; token += 16) {
        Left<T> x[kLefts];
        SIMT_UNROLL
        for (int m = 0; m < kLefts; ++m) {
          load_left_transposed(x[m], x_tile(channel0), x_column(channel0) + (down * kLefts + m) * 16, token, lane_);
        }
        float weights[4];
        load_pair(s_.U + token + lane_ % 4 * 2, weights[0], weights[1]);
        load_pair(s_.U + token + lane_ % 4 * 2 + 8, weights[2], weights[3]);
        SIMT_UNROLL
        for (int pair = 0; pair < kPairs; ++pair) {
          const int column = (across * kPairs + pair) * 16;
          if (slice * kSlice<T> + column >= N) continue;
          Right<T> right[2];
          load_right_transposed(right, B, column, token, lane_);
          SIMT_UNROLL
          for (int side = 0; side < 2; ++side) {
            scale(right[side], weights);
            SIMT_UNROLL
            for (int m = 0; m < kLefts; ++m) multiply_add(sum[m][pair][side], x[m], right[side]);
          }
        }
      }
      if (chunk_ > 0) {
        if (lane_ == 0) {
          while (simt::load_acquire(exchange_.flags + (link - 1) * kWarps + warp_) <= static_cast<unsigned>(slice)) {
            simt::spin_yield();
          }
        }
        __syncwarp();
      }
      float entering[kLefts][kPairs][2][4];
      for_each_piece(slice, [&](int m, int pair, int side, int i, int, int) {
        float(&e)[4] = entering[m][pair][side];
        if (chunk_ > 0) {
          const std::int64_t from = link - 1 - (planted<Break::scan_looks_back_too_far> && chunk_ > 1);
          const float4 values = __ldcg(reinterpret_cast<const float4*>(piece(from, slice, i)));
          e[0] = values.x, e[1] = values.y, e[2] = values.z, e[3] = values.w;
        }
      });
      for_each_piece(slice, [&](int m, int pair, int side, int i, int channel, int n) {
        float(&e)[4] = entering[m][pair][side];
        float(&h)[4] = sum[m][pair][side];
        const std::int64_t at = (row0 + channel) * N + n;
        if (chunk_ == 0) {
          SIMT_UNROLL
          for (int r = 0; r < 2; ++r) load_initial(at + 8 * r * N, e[2 * r], e[2 * r + 1]);
        }
        SIMT_UNROLL
        for (int j = 0; j < 4; ++j) {
          h[j] = decay == 0.0f ? h[j] : fmaf(decay, e[j], h[j]);  // a dropped one may be inf
          if (planted<Break::scan_state_kept_in_bf16>) h[j] = to_float(from_float<__nv_bfloat16>(h[j]));
        }
        if (chunk_ + 1 < chunks_) {
          simt::store_vec(piece(link, slice, i), simt::Vec<float, 4>{{h[0], h[1], h[2], h[3]}});
        } else {
          if (planted<Break::scan_final_state_without_last_chunk>) h[0] = e[0], h[1] = e[1];
          store_pair(t_.final_state + at, h[0], h[1]);
          store_pair(t_.final_state + at + 8 * N, h[2], h[3]);
        }
      });
      if (chunk_ + 1 < chunks_) {
        __syncwarp();
        if (lane_ == 0) simt::store_release(exchange_.flags + link * kWarps + warp_, static_cast<unsigned>(slice + 1));
      }
      if (!has_entering_state()) continue;
      T* const H = s_.H + slice * kChannels * kSlice<T>;
      for_each_piece(slice, [&](int m, int pair, int side, int, int channel, int n) {
        const float(&e)[4] = entering[m][pair][side];
        store_pair(element(H, channel, n % kSlice<T>), e[0], e[1]);
        store_pair(element(H, channel + 8, n % kSlice<T>), e[2], e[3]);
      });
    }
  }

  // body(m, pair, side, number, channel, n) for each of this thread's fragments of a slice of the state.
  template <class Body>
  SIMT_DEV void for_each_piece(int slice, Body body) const {
    SIMT_UNROLL
    for (int m = 0; m < kLefts; ++m) {
      SIMT_UNROLL
      for (int pair = 0; pair < kPairs; ++pair) {
        const int column = slice * kSlice<T> + (warp_ / kDown * kPairs + pair) * 16;
        if (column >= dims_.state_size) continue;
        SIMT_UNROLL
        for (int side = 0; side < 2; ++side) {
          body(m, pair, side, (m * kPairs + pair) * 2 + side, (warp_ % kDown * kLefts + m) * 16 + lane_ / 4,
               column + side * 8 + lane_ % 4 * 2);
        }
      }
    }
  }

  SIMT_DEV void load_initial(std::int64_t at, float& low, float& high) const {
    if (planted<Break::scan_initial_state_of_first_head>) at %= dims_.head_dim * dims_.state_size;
    if (t_.initial_state.data == nullptr) {
      low = high = 0.0f;
    } else if (t_.initial_state.is_bfloat16) {
      load_pair(static_cast<const __nv_bfloat16*>(t_.initial_state.data) + at, low, high);
    } else {
      load_pair(static_cast<const float*>(t_.initial_state.data) + at, low, high);
    }
  }

  // y = exp(cum_i) (H C_i)
  SIMT_DEV void multiply_C_H(float (&y)[kChannels / 8][4]) const {
#pragma unroll 1
    for (int n = 0; n < dims_.state_size; n += 16) {
      const int slice = n / kSlice<T>, column = n % kSlice<T>;
      Left<T> C;
      load_left(C, s_.C + slice * kQ * kSlice<T>, rows_, column, lane_);
      SIMT_UNROLL
      for (int p = 0; p < kChannels; p += 16) {
        Right<T> pair[2];
        load_right(pair, s_.H + slice * kChannels * kSlice<T>, p, column, lane_);
        multiply_add(y[p / 8], C, pair[0]);
        multiply_add(y[p / 8 + 1], C, pair[1]);
      }
    }
    SIMT_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int i = rows_ + lane_ / 4 + 8 * r;
      const bool continues = i < *s_.continuing || planted<Break::scan_state_enters_any_document>;
      const float decay = continues ? (planted<Break::scan_entering_state_not_decayed> ? 1.0f : expf(s_.cum[i])) : 0.0f;
      SIMT_UNROLL
      for (int p = 0; p < kChannels / 8; ++p) {
        SIMT_UNROLL
        for (int j = 2 * r; j < 2 * r + 2; ++j) y[p][j] = continues ? y[p][j] * decay : 0.0f;
      }
    }
  }

  // y += sum_j G_ij exp(cum_i - cum_j) Delta_j [i ~ j] x_j
  SIMT_DEV void multiply_G_x(float (&y)[kChannels / 8][4], int channel0) const {
    const int row = rows_ + lane_ / 4;
    const float cum[2] = {s_.cum[row], s_.cum[row + 8]};
    const int begin[2] = {s_.begin[row], s_.begin[row + 8]};
    SIMT_UNROLL
    for (int k = 0; k < kQ / 16; ++k) {
      if (16 * k > rows_) continue;
      float weighted[2][4];
      SIMT_UNROLL
      for (int side = 0; side < 2; ++side) {
        const int first = 16 * k + 8 * side + lane_ % 4 * 2;
        float cum_j[2], delta_j[2];
        load_pair(s_.cum + first, cum_j[0], cum_j[1]);
        load_pair(s_.delta + first, delta_j[0], delta_j[1]);
        SIMT_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int j = first + e % 2;
          const bool counts =
              j <= row + e / 2 * 8 && (j >= begin[e / 2] || planted<Break::scan_documents_mix_in_chunk>);
          weighted[side][e] =
              counts ? G_[k][side][e] * expf(fminf(cum[e / 2] - cum_j[e % 2], 0.0f)) * delta_j[e % 2] : 0.0f;
        }
      }
      Left<T> left;
      left_from_sums(left, weighted);
      SIMT_UNROLL
      for (int p = 0; p < kChannels; p += 16) {
        Right<T> pair[2];
        load_right_transposed(pair, x_tile(channel0), x_column(channel0) + p, 16 * k, lane_);
        multiply_add(y[p / 8], left, pair[0]);
        multiply_add(y[p / 8 + 1], left, pair[1]);
      }
    }
  }

  // body(row of the chunk, channel, low, high) for each pair of y.
  template <class Body>
  SIMT_DEV void for_each_pair(float (&y)[kChannels / 8][4], Body body) const {
    SIMT_UNROLL
    for (int p = 0; p < kChannels / 8; ++p) {
      SIMT_UNROLL
      for (int r = 0; r < 2; ++r) {
        body(rows_ + lane_ / 4 + 8 * r, p * 8 + lane_ % 4 * 2, y[p][2 * r], y[p][2 * r + 1]);
      }
    }
  }

  SIMT_DEV void add_skip(float (&y)[kChannels / 8][4], int head, int channel0) const {
    if (t_.D.data == nullptr) return;
    const float D = t_.D_per_channel ? 0.0f : scalar_at(t_.D, planted<Break::scan_skip_of_another_head> ? 0 : head);
    for_each_pair(y, [&](int row, int channel, float& low, float& high) {
      float x[2];
      load_pair(element(x_tile(channel0), row, x_column(channel0) + channel), x[0], x[1]);
      low += (t_.D_per_channel ? scalar_at(t_.D, channel0 + channel) : D) * x[0];
      high += (t_.D_per_channel ? scalar_at(t_.D, channel0 + channel + 1) : D) * x[1];
    });
  }

  // Through this warp's rows of x, so that y leaves in 16-byte pieces.
  SIMT_DEV void store_y(float (&y)[kChannels / 8][4], int channel0) const {
    if constexpr (kNormed) {
      put_rows(y, channel0);
      if (t_.y != nullptr) store_rows(t_.y, channel0);
      return;
    }
    if (t_.ungated_y != nullptr) {
      put_rows(y, channel0);
      store_rows(t_.ungated_y, channel0);
    }
    if (t_.z != nullptr) {
      for_each_pair(y, [&](int row, int channel, float& low, float& high) {
        if (row >= length_) return;
        float z[2];
        load_pair(t_.z + (first_ + row) * dims_.z_stride + channel0 + channel, z[0], z[1]);
        low *= silu(z[0]);
        high *= silu(z[1]);
      });
    }
    put_rows(y, channel0);
    store_rows(t_.y, channel0);
  }

  SIMT_DEV void put_rows(float (&y)[kChannels / 8][4], int channel0) const {
    for_each_pair(y, [&](int row, int channel, float& low, float& high) {
      store_pair(element(x_tile(channel0), row, x_column(channel0) + channel), low, high);
    });
    __syncwarp();
  }

  SIMT_DEV void store_rows(T* out, int channel0) const {
    const std::int64_t stride = dims_.heads * dims_.head_dim;
    constexpr int kPieces = kChannels / kPiece<T>;
    for (int i = lane_; i < 16 * kPieces; i += 32) {
      const int row = rows_ + spread(i / kPieces), column = i % kPieces * kPiece<T>;
      if (row >= length_) continue;
      simt::store_vec(out + (first_ + row) * stride + channel0 + column,
                      simt::load_vec<kPiece<T>>(element(x_tile(channel0), row, x_column(channel0) + column)));
    }
    __syncwarp();
  }

  // This warp's 16 tokens: y from its rows of x, in the order of gated_rms_norm's warp_per_row.
  SIMT_DEV void norm_rows() const {
    constexpr int kVec = kPiece<T>, kKept = kMaxNormedChannels / (32 * kVec);
    constexpr int kTogether = sizeof(T) == 2 ? 2 : 1;  // tokens whose z is on its way; more would spill
    const std::int64_t channels = dims_.heads * dims_.head_dim;
    const int width = static_cast<int>(channels / dims_.groups), vectors = width / kVec;
    const std::int64_t column = group_ * width;
    simt::Vec<T, kVec> weight[kKept];
    const auto for_each_vector = [&](auto body) {  // body(kept, channel of the group)
      SIMT_UNROLL
      for (int k = 0; k < kKept; ++k) {
        if (k * 32 + lane_ < vectors) body(k, (k * 32 + lane_) * kVec);
      }
    };
    for_each_vector([&](int k, int i) {
      if (planted<Break::normed_weight_of_next_head>) i = (i + static_cast<int>(dims_.head_dim)) % width;
      weight[k] = simt::load_vec<kVec>(norm_.weight + column + i);
    });
#pragma unroll 1
    for (int rows = rows_; rows < rows_ + 16; rows += kTogether) {
      simt::Vec<T, kVec> z[kTogether][kKept];
      SIMT_UNROLL
      for (int r = 0; r < kTogether; ++r) {
        if (rows + r >= length_) continue;
        const T* const from = norm_.z + (first_ + rows + r) * dims_.z_stride + column;
        for_each_vector([&](int k, int i) { z[r][k] = simt::load_vec<kVec>(from + i); });
      }
      SIMT_UNROLL
      for (int r = 0; r < kTogether; ++r) {
        const std::int64_t token = first_ + rows + r;
        if (rows + r >= length_) continue;
        if (planted<Break::normed_odd_tail_not_stored> && rows + kTogether > length_) continue;
        const int gate = planted<Break::normed_gate_of_first_token> ? 0 : r;
        float v[kKept][kVec], squares = 0.0f;
        for_each_vector([&](int k, int i) {
          T* const tile = s_.x + i / kSlice<T> * kQ * kSlice<T>;
          const auto y = simt::load_vec<kVec>(element(tile, rows + r, i % kSlice<T>));
          SIMT_UNROLL
          for (int j = 0; j < kVec; ++j) {
            const float g = silu(to_float(z[gate][k][j]));
            v[k][j] = to_float(y[j]) * (planted<Break::normed_gate_after_norm> ? 1.0f : g);
            squares = fmaf(v[k][j], v[k][j], squares);
          }
        });
        const int mean_over = planted<Break::normed_mean_over_all_heads> ? static_cast<int>(channels) : width;
        const float rstd =
            reciprocal_rms(warp_sum(squares), mean_over, planted<Break::normed_eps_left_out> ? 0.0f : norm_.eps);
        for_each_vector([&](int k, int i) {
          simt::Vec<T, kVec> out;
          SIMT_UNROLL
          for (int j = 0; j < kVec; ++j) {
            if (planted<Break::normed_gate_after_norm>) v[k][j] *= silu(to_float(z[r][k][j]));
            out[j] = from_float<T>(to_float(weight[k][j]) * (v[k][j] * rstd));
          }
          simt::store_vec(norm_.out + token * channels + column + i, out);
        });
        if (norm_.rstd != nullptr && lane_ == 0) norm_.rstd[group_ * dims_.batch * dims_.seq_len + token] = rstd;
      }
    }
  }

  const SsdScanDims& dims_;
  const SsdScanForward<T>& t_;
  const SsdScanNorm<T>& norm_;
  const Exchange& exchange_;
  const Shared<T, kQ>& s_;
  int slices_, chunks_, chunk_, b_, group_;
  std::int64_t first_;                        // the chunk's first token of all
  int thread_, warp_, lane_, length_, rows_;  // rows_: the first of this warp's
  float G_[kQ / 16][2][4];
};

template <class T, int kQ, int kChannels, bool kNormed>
__global__ void __launch_bounds__(2 * kQ, 1)
    ssd_scan_forward_chunked_kernel(SsdScanDims dims, SsdScanForward<T> t, SsdScanNorm<T> norm, Exchange exchange,
                                    int slices, int chunks, int tile_slices) {
  SIMT_DYN_SMEM(raw);
  simt::Carver carver(raw);
  const auto row = static_cast<unsigned>(kSlice<T>), rows = static_cast<unsigned>(slices) * row;
  Shared<T, kQ> shared;
  shared.x = carver.take<T>(static_cast<unsigned>(tile_slices) * kQ * row, 128);
  shared.delta = carver.take<float>(kQ);
  shared.cum = carver.take<float>(kQ);
  shared.U = carver.take<float>(kQ);
  shared.begin = carver.take<unsigned char>(kQ);
  shared.continuing = carver.take<int>(1, 4);
  auto* const ticket = carver.take<unsigned>(1, 4);
  shared.B = carver.take<T>(kQ * rows, 128);
  shared.C = carver.take<T>(kQ * rows, 128);
  shared.H = carver.take<T>(kChannels * rows, 128);
  if (threadIdx.x == 0) *ticket = atomicAdd(exchange.ticket, 1u);
  __syncthreads();
  Chunk<T, kQ, kChannels, kNormed>(dims, t, norm, exchange, slices, chunks, static_cast<int>(*ticket), shared).run();
}

}  // namespace

template <class T>
void launch_chunked(const Plan& plan, const SsdScanDims& dims, const SsdScanForward<T>& tensors,
                    const SsdScanNorm<T>* norm, cudaStream_t stream) {
  auto* const states = static_cast<float*>(tensors.workspace);
  auto* const flags = reinterpret_cast<unsigned*>(states + plan.states * plan.state_floats(sizeof(T)));
  const Exchange exchange{.ticket = flags + plan.flags, .flags = flags, .states = states};
  const std::int64_t words = plan.flags + 1, clear_blocks = (words + kClearThreads - 1) / kClearThreads;
  simt::launch(clear_kernel,
               {.grid = dim3(static_cast<unsigned>(clear_blocks < 1024 ? clear_blocks : 1024)),
                .block = dim3(kClearThreads),
                .stream = stream},
               flags, words);
  const simt::Launch launch{.grid = dim3(static_cast<unsigned>(plan.blocks)),
                            .block = dim3(static_cast<unsigned>(2 * plan.chunk)),
                            .smem = plan.shared_bytes,
                            .stream = stream};
  const auto run = [&]<int kQ, int kChannels>() {
    if (plan.chunk != kQ || plan.channels != kChannels) return;
    const auto launch_kernel = [&](auto kernel, const SsdScanNorm<T>& n) {
      simt::launch(kernel, launch, dims, tensors, n, exchange, plan.slices, static_cast<int>(plan.chunks),
                   plan.tile_slices);
    };
    if (norm != nullptr) {
      launch_kernel(ssd_scan_forward_chunked_kernel<T, kQ, kChannels, true>, *norm);
    } else {
      launch_kernel(ssd_scan_forward_chunked_kernel<T, kQ, kChannels, false>, {});
    }
  };
  if constexpr (sizeof(T) == 2) {
    run.template operator()<128, 32>();
    run.template operator()<64, 32>();
    run.template operator()<64, 16>();
  } else {
    run.template operator()<32, 16>();
  }
}

template void launch_chunked(const Plan&, const SsdScanDims&, const SsdScanForward<float>&, const SsdScanNorm<float>*,
                             cudaStream_t);
template void launch_chunked(const Plan&, const SsdScanDims&, const SsdScanForward<__nv_bfloat16>&,
                             const SsdScanNorm<__nv_bfloat16>*, cudaStream_t);

}  // namespace assay::gpu::ssd_scan
