// Tiles in shared memory and the 16-deep matrix products made from them, for bfloat16 (mma.m16n8k16) and for float
// (mma.m16n8k8 of tf32, three products for one: the operands' upper and lower halves but for lower times lower).
//
// A tile has rows of 128 bytes: 64 bfloat16 or 32 floats; wider matrices are slices one after the other. The eight
// 16-byte pieces of a row are permuted by a key of the row, so that no access below meets a bank twice:
//   eight rows of one piece (ldmatrix, plain or transposed; copies in and out) need eight distinct keys;
//   float pairs, eight bytes a lane, four rows a half warp: keys of rows 0..3 and 4..7 that differ beyond the last bit;
//   single floats of rows 2 t + i, t = 0..3, and eight neighbouring columns: the same of even and of odd rows.
//
// With g = lane / 4, t = lane % 4, elements of fragments of 16 x 16 (left), 16 x 8 (right) and 16 x 8 (sum):
//   left:  rows g and g + 8        depth 2 t, 2 t + 1, 2 t + 8, 2 t + 9
//   right: columns g               the same depth
//   sum:   [0], [1]: row g, columns 2 t, 2 t + 1    [2], [3]: row g + 8
// Two sums beside each other have the elements of one left fragment. (For float the depth is thereby numbered in
// another order than the instruction's own, which is free as both operands agree.)
#pragma once

#include "cuda/common/vec.cuh"
#include "cuda/ssd_scan/plan.h"

namespace assay::gpu::ssd_scan {

template <class T>
inline constexpr int kSlice = kRowBytes / static_cast<int>(sizeof(T));  // elements of a row
template <class T>
inline constexpr int kPiece = 16 / static_cast<int>(sizeof(T));

SIMT_DEV int piece_key(int row) {
  const int side = row >> 2 & 1;
  return ((row & 3) ^ side) * 2 + side;
}

// column < kSlice<T>
template <class T>
SIMT_DEV T* element(T* tile, int row, int column) {
  return tile + row * kSlice<T> + ((column / kPiece<T>)^piece_key(row)) * kPiece<T> + column % kPiece<T>;
}

template <class T>
struct Left;
template <class T>
struct Right;
template <>
struct Left<__nv_bfloat16> {
  std::uint32_t r[4];  // (g, low), (g + 8, low), (g, high), (g + 8, high)
};
template <>
struct Right<__nv_bfloat16> {
  std::uint32_t r[2];  // low, high
};
template <>
struct Left<float> {
  float r[4][2];
};
template <>
struct Right<float> {
  float r[2][2];
};

// ---- bfloat16

SIMT_DEV std::uint32_t pack(float low, float high) {
  const __nv_bfloat16 pair[2] = {from_float<__nv_bfloat16>(low), from_float<__nv_bfloat16>(high)};
  std::uint32_t bits;
  memcpy(&bits, pair, sizeof bits);
  return bits;
}
SIMT_DEV void unpack(std::uint32_t bits, float& low, float& high) {
  low = __uint_as_float(bits << 16);
  high = __uint_as_float(bits & 0xFFFF0000u);
}

// tile[row + 0..15][depth + 0..15]
SIMT_DEV void load_left(Left<__nv_bfloat16>& left, __nv_bfloat16* tile, int row, int depth, int lane) {
  simt::ldmatrix_x4(left.r, element(tile, row + lane % 16, depth + lane / 16 * 8));
}
// tile[depth + 0..15][row + 0..15]
SIMT_DEV void load_left_transposed(Left<__nv_bfloat16>& left, __nv_bfloat16* tile, int row, int depth, int lane) {
  simt::ldmatrix_x4<true>(left.r, element(tile, depth + lane / 16 * 8 + lane % 8, row + lane / 8 % 2 * 8));
}
// tile[column + 0..15][depth + 0..15]: two fragments
SIMT_DEV void load_right(Right<__nv_bfloat16> (&right)[2], __nv_bfloat16* tile, int column, int depth, int lane) {
  std::uint32_t r[4];
  simt::ldmatrix_x4(r, element(tile, column + lane / 16 * 8 + lane % 8, depth + lane / 8 % 2 * 8));
  right[0] = {{r[0], r[1]}};
  right[1] = {{r[2], r[3]}};
}
// tile[depth + 0..15][column + 0..15]: two fragments
SIMT_DEV void load_right_transposed(Right<__nv_bfloat16> (&right)[2], __nv_bfloat16* tile, int column, int depth,
                                    int lane) {
  std::uint32_t r[4];
  simt::ldmatrix_x4<true>(r, element(tile, depth + lane % 16, column + lane / 16 * 8));
  right[0] = {{r[0], r[1]}};
  right[1] = {{r[2], r[3]}};
}
SIMT_DEV void left_from_sums(Left<__nv_bfloat16>& left, const float (&sums)[2][4]) {
  SIMT_UNROLL
  for (int q = 0; q < 4; ++q) left.r[q] = pack(sums[q / 2][q % 2 * 2], sums[q / 2][q % 2 * 2 + 1]);
}
// Multiplies by a weight for each depth: 2 t, 2 t + 1, 2 t + 8, 2 t + 9. Rounded to bfloat16.
SIMT_DEV void scale(Right<__nv_bfloat16>& right, const float (&weights)[4]) {
  SIMT_UNROLL
  for (int q = 0; q < 2; ++q) {
    float low, high;
    unpack(right.r[q], low, high);
    right.r[q] = pack(low * weights[2 * q], high * weights[2 * q + 1]);
  }
}
SIMT_DEV void multiply_add(float (&sum)[4], const Left<__nv_bfloat16>& left, const Right<__nv_bfloat16>& right) {
  simt::mma_bf16_16816(sum, left.r, right.r, sum);
}
SIMT_DEV void store_pair(__nv_bfloat16* p, float low, float high) {
  *reinterpret_cast<std::uint32_t*>(p) = pack(low, high);
}
SIMT_DEV void load_pair(const __nv_bfloat16* p, float& low, float& high) {
  unpack(*reinterpret_cast<const std::uint32_t*>(p), low, high);
}

// ---- float

SIMT_DEV void store_pair(float* p, float low, float high) { simt::store_vec(p, simt::Vec<float, 2>{{low, high}}); }
SIMT_DEV void load_pair(const float* p, float& low, float& high) {
  const auto pair = simt::load_vec<2>(p);
  low = pair[0];
  high = pair[1];
}

SIMT_DEV void load_left(Left<float>& left, float* tile, int row, int depth, int lane) {
  SIMT_UNROLL
  for (int q = 0; q < 4; ++q) {
    load_pair(element(tile, row + lane / 4 + q % 2 * 8, depth + q / 2 * 8 + lane % 4 * 2), left.r[q][0], left.r[q][1]);
  }
}
SIMT_DEV void load_left_transposed(Left<float>& left, float* tile, int row, int depth, int lane) {
  SIMT_UNROLL
  for (int q = 0; q < 4; ++q) {
    SIMT_UNROLL
    for (int i = 0; i < 2; ++i) {
      left.r[q][i] = *element(tile, depth + q / 2 * 8 + lane % 4 * 2 + i, row + q % 2 * 8 + lane / 4);
    }
  }
}
SIMT_DEV void load_right(Right<float> (&right)[2], float* tile, int column, int depth, int lane) {
  SIMT_UNROLL
  for (int q = 0; q < 4; ++q) {
    float(&r)[2] = right[q / 2].r[q % 2];
    load_pair(element(tile, column + q / 2 * 8 + lane / 4, depth + q % 2 * 8 + lane % 4 * 2), r[0], r[1]);
  }
}
SIMT_DEV void load_right_transposed(Right<float> (&right)[2], float* tile, int column, int depth, int lane) {
  SIMT_UNROLL
  for (int q = 0; q < 4; ++q) {
    SIMT_UNROLL
    for (int i = 0; i < 2; ++i) {
      right[q / 2].r[q % 2][i] = *element(tile, depth + q % 2 * 8 + lane % 4 * 2 + i, column + q / 2 * 8 + lane / 4);
    }
  }
}
SIMT_DEV void left_from_sums(Left<float>& left, const float (&sums)[2][4]) {
  SIMT_UNROLL
  for (int q = 0; q < 4; ++q) {
    SIMT_UNROLL
    for (int i = 0; i < 2; ++i) left.r[q][i] = sums[q / 2][q % 2 * 2 + i];
  }
}
SIMT_DEV void scale(Right<float>& right, const float (&weights)[4]) {
  SIMT_UNROLL
  for (int q = 0; q < 4; ++q) right.r[q / 2][q % 2] *= weights[q];
}
SIMT_DEV void multiply_add(float (&sum)[4], const Left<float>& left, const Right<float>& right) {
  SIMT_UNROLL
  for (int side = 0; side < 2; ++side) {  // depth 0..7, 8..15
    std::uint32_t left_upper[4], left_lower[4], right_upper[2], right_lower[2];
    SIMT_UNROLL
    for (int q = 0; q < 4; ++q) {
      const float value = left.r[side * 2 + q % 2][q / 2];
      left_upper[q] = simt::to_tf32(value);
      left_lower[q] = simt::to_tf32(value - __uint_as_float(left_upper[q]));
    }
    SIMT_UNROLL
    for (int q = 0; q < 2; ++q) {
      const float value = right.r[side][q];
      right_upper[q] = simt::to_tf32(value);
      right_lower[q] = simt::to_tf32(value - __uint_as_float(right_upper[q]));
    }
    simt::mma_3xtf32_1688(sum, left_upper, left_lower, right_upper, right_lower);
  }
}

}  // namespace assay::gpu::ssd_scan
