// A matrix product that uses the whole Ampere set: the load of gemm_test, the smoke test and the benchmark.
//
// C [M, N] = A [M, K] B [N, K]^T    A, B row-major bf16, K a multiple of 8; C float
// Method: one block of 4 warps per 64 x 64 tile, K in steps of 32, two stages of cp.async, ldmatrix, mma.m16n8k16.
// Accumulate: float keeps sums in the mma accumulators; __nv_bfloat16 rounds them after each step, the classic mistake.
#pragma once

#include "cuda/simt/simt.cuh"

namespace simt::testing {

struct GemmTile {
  static constexpr int kM = 64, kN = 64, kK = 32;
  static constexpr int kRow = kK + 8;  // padded: the 8 rows of one ldmatrix matrix lie in distinct banks
  static constexpr int kStage = (kM + kN) * kRow;
  static constexpr unsigned kSharedBytes = 2 * kStage * sizeof(__nv_bfloat16);
};

template <class Accumulate>
__global__ void __launch_bounds__(128)
    gemm_kernel(const __nv_bfloat16* __restrict__ A, const __nv_bfloat16* __restrict__ B, float* __restrict__ C, int M,
                int N, int K) {
  using Tile = GemmTile;
  SIMT_DYN_SMEM(raw);
  Carver carver(raw);
  __nv_bfloat16* tiles_a = carver.take<__nv_bfloat16>(2 * Tile::kM * Tile::kRow, 128);
  __nv_bfloat16* tiles_b = carver.take<__nv_bfloat16>(2 * Tile::kN * Tile::kRow, 128);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int first_row = static_cast<int>(blockIdx.y) * Tile::kM, first_column = static_cast<int>(blockIdx.x) * Tile::kN;
  const int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
  float sum[2][4][4] = {};

  const auto load = [&](int stage, int k0) {
    SIMT_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int chunk = i * 128 + thread, row = chunk / 4, k = chunk % 4 * 8;
      const bool has_a = first_row + row < M && k0 + k < K, has_b = first_column + row < N && k0 + k < K;
      const auto offset = [&](int global_row) { return static_cast<long long>(global_row) * K + k0 + k; };
      cp_async16(tiles_a + (stage * Tile::kM + row) * Tile::kRow + k, has_a ? A + offset(first_row + row) : A, has_a);
      cp_async16(tiles_b + (stage * Tile::kN + row) * Tile::kRow + k, has_b ? B + offset(first_column + row) : B,
                 has_b);
    }
    cp_async_commit();
  };

  const int steps = (K + Tile::kK - 1) / Tile::kK;
  load(0, 0);
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) {
      load((step + 1) % 2, (step + 1) * Tile::kK);
    } else {
      cp_async_commit();
    }
    cp_async_wait<1>();
    __syncthreads();
    const __nv_bfloat16* a_tile = tiles_a + step % 2 * Tile::kM * Tile::kRow;
    const __nv_bfloat16* b_tile = tiles_b + step % 2 * Tile::kN * Tile::kRow;
    SIMT_UNROLL
    for (int k = 0; k < Tile::kK; k += 16) {
      std::uint32_t a[2][4], b[2][4];
      SIMT_UNROLL
      for (int i = 0; i < 2; ++i) {
        ldmatrix_x4(a[i], a_tile + (warp_row + i * 16 + lane % 16) * Tile::kRow + k + lane / 16 * 8);
      }
      SIMT_UNROLL
      for (int j = 0; j < 2; ++j) {
        const int row = warp_column + j * 16 + lane % 8 + lane / 16 * 8;
        ldmatrix_x4(b[j], b_tile + row * Tile::kRow + k + lane / 8 % 2 * 8);
      }
      SIMT_UNROLL
      for (int i = 0; i < 2; ++i) {
        SIMT_UNROLL
        for (int j = 0; j < 4; ++j) {
          const std::uint32_t pair[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
          mma_bf16_16816(sum[i][j], a[i], pair, sum[i][j]);
          SIMT_UNROLL
          for (int e = 0; e < 4; ++e) sum[i][j][e] = static_cast<float>(static_cast<Accumulate>(sum[i][j][e]));
        }
      }
    }
    __syncthreads();
  }

  SIMT_UNROLL
  for (int i = 0; i < 2; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < 4; ++j) {
      SIMT_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int row = first_row + warp_row + i * 16 + lane / 4 + e / 2 * 8;
        const int column = first_column + warp_column + j * 8 + lane % 4 * 2 + e % 2;
        if (row < M && column < N) C[static_cast<long long>(row) * N + column] = sum[i][j][e];
      }
    }
  }
}

template <class Accumulate = float>
void gemm(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k) {
  const auto tiles = [](int size, int tile) { return static_cast<unsigned>((size + tile - 1) / tile); };
  launch(gemm_kernel<Accumulate>,
         {.grid = dim3(tiles(n, GemmTile::kN), tiles(m, GemmTile::kM)), .block = 128, .smem = GemmTile::kSharedBytes},
         a, b, c, m, n, k);
}

}  // namespace simt::testing
