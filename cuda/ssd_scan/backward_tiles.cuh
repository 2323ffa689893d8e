// What the two chunked kernels of backward share: copies between memory and tiles, and a chunk's tokens over a warp.
#pragma once

#include "cuda/ssd_scan/backward.cuh"
#include "cuda/ssd_scan/fragments.cuh"

namespace assay::gpu::ssd_scan {

// Copies `rows` rows of `width` elements, `stride` apart, into slices of `pitch` rows; rows from `valid` on become
// zero.
template <class T>
SIMT_DEV void copy_rows(T* tile, int pitch, const T* from, std::int64_t stride, int width, int rows, int valid,
                        int thread, int threads) {
  const int pieces = width / kPiece<T>;
  for (int i = thread; i < rows * pieces; i += threads) {
    // The last two bits swapped: rows of 64 bytes that a quarter warp has together then lie in distinct banks.
    const int line = i / pieces, row = (line & ~3) | (line & 1) << 1 | (line >> 1 & 1);
    const int column = i % pieces * kPiece<T>;
    T* const to = element(tile + column / kSlice<T> * pitch * kSlice<T>, row, column % kSlice<T>);
    simt::cp_async16(to, row < valid ? from + row * stride + column : from, row < valid);
  }
}

// Stores two sums beside each other, 16 x 16, at out[row][column]; rows from `valid` on are left out. All lanes. Each
// instruction fills 32-byte sectors: for bfloat16 neighbouring lanes exchange a half.
SIMT_DEV void store_sums(float* out, std::int64_t stride, const float (&sums)[2][4], int valid, int lane) {
  SIMT_UNROLL
  for (int r = 0; r < 2; ++r) {
    const int row = lane / 4 + 8 * r;
    if (row >= valid) continue;
    SIMT_UNROLL
    for (int side = 0; side < 2; ++side) {
      store_pair(out + row * stride + side * 8 + lane % 4 * 2, sums[side][2 * r], sums[side][2 * r + 1]);
    }
  }
}
SIMT_DEV void store_sums(__nv_bfloat16* out, std::int64_t stride, const float (&sums)[2][4], int valid, int lane) {
  const bool odd = lane % 2 != 0;
  SIMT_UNROLL
  for (int r = 0; r < 2; ++r) {
    const std::uint32_t low = pack(sums[0][2 * r], sums[0][2 * r + 1]), high = pack(sums[1][2 * r], sums[1][2 * r + 1]);
    const std::uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? low : high, 1);
    const int row = lane / 4 + 8 * r, column = odd ? 8 + lane % 4 * 2 - 2 : lane % 4 * 2;
    if (row >= valid) continue;
    simt::store_vec(reinterpret_cast<std::uint32_t*>(out + row * stride + column),
                    simt::Vec<std::uint32_t, 2>{{odd ? other : low, odd ? high : other}});
  }
}

// A value for each of kQ tokens, spread over a warp: token lane * kPerLane + k. Lanes beyond have none.
template <int kQ>
inline constexpr int kPerLane = kQ > 32 ? kQ / 32 : 1;

// The sum of the tokens before (or: of this one and those after), within segments of kWidth lanes.
template <int kWidth, int kCount>
SIMT_DEV void sum_before(float (&values)[kCount], int lane) {
  float total = 0.0f;
  SIMT_UNROLL
  for (int k = 0; k < kCount; ++k) {
    const float value = values[k];
    values[k] = total;
    total += value;
  }
  float before = total;
  SIMT_UNROLL
  for (int distance = 1; distance < kWidth; distance *= 2) {
    const float other = __shfl_up_sync(0xffffffffu, before, static_cast<unsigned>(distance), kWidth);
    if (lane % kWidth >= distance) before += other;
  }
  before = __shfl_up_sync(0xffffffffu, before, 1, kWidth);
  SIMT_UNROLL
  for (int k = 0; k < kCount; ++k) values[k] += lane % kWidth > 0 ? before : 0.0f;
}
template <int kWidth, int kCount>
SIMT_DEV void sum_from(float (&values)[kCount], int lane) {
  SIMT_UNROLL
  for (int k = kCount - 1; k > 0; --k) values[k - 1] += values[k];
  float after = values[0];
  SIMT_UNROLL
  for (int distance = 1; distance < kWidth; distance *= 2) {
    const float other = __shfl_down_sync(0xffffffffu, after, static_cast<unsigned>(distance), kWidth);
    if (lane % kWidth + distance < kWidth) after += other;
  }
  after = __shfl_down_sync(0xffffffffu, after, 1, kWidth);
  SIMT_UNROLL
  for (int k = 0; k < kCount; ++k) values[k] += lane % kWidth + 1 < kWidth ? after : 0.0f;
}

// Where a chunk's documents begin. One warp; tokens past the end lie in the last document.
template <int kQ>
struct Documents {
  int begin[kPerLane<kQ>];  // where in the chunk this lane's tokens' documents begin
  int last_begin;           // where the last one does
  int continuing;           // this many tokens go on with the document of the token before the chunk

  SIMT_DEV Documents(const std::int32_t* seq_idx, bool starts_row, int length, int lane) {
    int latest = 0, first = kQ;
    SIMT_UNROLL
    for (int k = 0; k < kPerLane<kQ>; ++k) {
      const int i = lane * kPerLane<kQ> + k;
      if (seq_idx != nullptr && i < length && seq_idx[i] != (starts_row && i == 0 ? 0 : seq_idx[i - 1])) {
        latest = i;
        first = first < i ? first : i;
      }
      begin[k] = latest;
    }
    SIMT_UNROLL
    for (int distance = 1; distance < 32; distance *= 2) {
      const int other = __shfl_up_sync(0xffffffffu, latest, static_cast<unsigned>(distance));
      if (lane >= distance && other > latest) latest = other;
      const int other_first = __shfl_xor_sync(0xffffffffu, first, distance);
      first = first < other_first ? first : other_first;
    }
    const int before = __shfl_up_sync(0xffffffffu, latest, 1);
    SIMT_UNROLL
    for (int k = 0; k < kPerLane<kQ>; ++k) begin[k] = lane > 0 && before > begin[k] ? before : begin[k];
    last_begin = __shfl_sync(0xffffffffu, latest, 31);
    continuing = first;
  }
};

// Delta, its slope and cum of a chunk's tokens for one head. Tokens past the end have delta 0.
template <int kQ>
struct Steps {
  float delta[kPerLane<kQ>], slope[kPerLane<kQ>], cum[kPerLane<kQ>];
  float last;  // cum of the last token

  template <class T>
  SIMT_DEV Steps(const SsdScanDims& dims, const SsdScanBackward<T>& t, std::int64_t first, int length, int head,
                 int lane) {
    const float A = t.A[head];
    SIMT_UNROLL
    for (int k = 0; k < kPerLane<kQ>; ++k) {
      const int i = lane * kPerLane<kQ> + k;
      const Step step = i < length ? step_of(dims, t, first + i, head) : Step{0.0f, 0.0f};
      delta[k] = step.delta;
      slope[k] = step.slope;
      cum[k] = i < length ? step.delta * A : 0.0f;
    }
    float own[kPerLane<kQ>];
    SIMT_UNROLL
    for (int k = 0; k < kPerLane<kQ>; ++k) own[k] = cum[k];
    sum_before<32>(cum, lane);
    SIMT_UNROLL
    for (int k = 0; k < kPerLane<kQ>; ++k) cum[k] += own[k];
    last = __shfl_sync(0xffffffffu, cum[kPerLane<kQ> - 1], kQ / kPerLane<kQ> - 1);
  }

  // E_i = exp(cum_i), 0 where the entering state is forgotten.
  SIMT_DEV float from_entering(const Documents<kQ>& documents, int k, int lane) const {
    return lane * kPerLane<kQ> + k < documents.continuing ? expf(cum[k]) : 0.0f;
  }
  // u_j = exp(cum_last - cum_j), 0 where the document does not reach the chunk's end.
  SIMT_DEV float to_leaving(const Documents<kQ>& documents, int k, int lane) const {
    return lane * kPerLane<kQ> + k >= documents.last_begin ? expf(fminf(last - cum[k], 0.0f)) : 0.0f;
  }
  SIMT_DEV float through(const Documents<kQ>& documents) const {
    return documents.continuing == kQ ? expf(last) : 0.0f;
  }
};

}  // namespace assay::gpu::ssd_scan
