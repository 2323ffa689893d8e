// Warp-wide matrix instructions: ldmatrix, stmatrix, mma.sync. All 32 lanes, from one line.
//
// Fragments of mma.m16n8 for elements of 32 / E bits, with g = lane / 4 and t = lane % 4:
//   A [16, K]  register q, element i:  row g + 8 (q % 2), column t E + i + 4 E (q / 2)
//   B [K, 8]   register q, element i:  row t E + i + 4 E q, column g
//   C, D [16, 8]  register q:          row g + 8 (q / 2), column 2 t + q % 2
// Source: PTX ISA, Matrix Fragments for mma.
//
// On the CPU nominal arithmetic adds the products one by one in float; hostile arithmetic takes the upper half of K
// first, adds each half exactly, and truncates after each (sm_80 adds 8 products of 16 bits at a time and truncates).
#pragma once

#include "cuda/simt/platform.cuh"
#include "cuda/simt/shared_memory.cuh"

#if SIMT_HOST
#include "cuda/simt/matrix_host.h"
#endif

namespace simt {

// ---- ldmatrix: kCount 8x8 matrices of 16-bit elements; lane 8 j + r gives the address of row r of matrix j (16 bytes,
// aligned). Register j of lane l receives elements (l / 4, 2 (l % 4) + {0, 1}) of matrix j, transposed: with row and
// column exchanged.
template <int kCount, bool kTranspose = false>
SIMT_DEV void ldmatrix(std::uint32_t (&r)[kCount], const void* row SIMT_AND_SITE) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4, "ldmatrix: x1, x2 or x4");
#if SIMT_HOST
  host_matrix::load<kCount, kTranspose>(r, row, site);
#else
  const std::uint32_t address = smem_addr(row);
  if constexpr (kCount == 1 && !kTranspose) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(address) : "memory");
  } else if constexpr (kCount == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(address) : "memory");
  } else if constexpr (kCount == 2 && !kTranspose) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
  } else if constexpr (kCount == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
  } else if constexpr (!kTranspose) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
#endif
}
template <bool kTranspose = false>
SIMT_DEV void ldmatrix_x4(std::uint32_t (&r)[4], const void* row SIMT_AND_SITE) {
#if SIMT_HOST
  ldmatrix<4, kTranspose>(r, row, site);
#else
  ldmatrix<4, kTranspose>(r, row);
#endif
}

// ---- stmatrix: ldmatrix the other way round. An instruction since sm_90; shuffled addresses and stores before.
template <int kCount, bool kTranspose = false>
SIMT_DEV void stmatrix(void* row, const std::uint32_t (&r)[kCount] SIMT_AND_SITE) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4, "stmatrix: x1, x2 or x4");
#if SIMT_HOST
  host_matrix::store<kCount, kTranspose>(row, r, site);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  const std::uint32_t address = smem_addr(row);
  if constexpr (kCount == 1 && !kTranspose) {
    asm volatile("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0], {%1};" ::"r"(address), "r"(r[0]) : "memory");
  } else if constexpr (kCount == 1) {
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(address), "r"(r[0]) : "memory");
  } else if constexpr (kCount == 2 && !kTranspose) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1,%2};" ::"r"(address), "r"(r[0]), "r"(r[1])
                 : "memory");
  } else if constexpr (kCount == 2) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1,%2};" ::"r"(address), "r"(r[0]), "r"(r[1])
                 : "memory");
  } else if constexpr (!kTranspose) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r[0]), "r"(r[1]),
                 "r"(r[2]), "r"(r[3])
                 : "memory");
  } else {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r[0]),
                 "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
  }
#else
  const int lane = static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
  for (int j = 0; j < kCount; ++j) {
    for (int half = 0; half < 2; ++half) {
      const int across = 2 * (lane % 4) + half, along = lane / 4;
      const int matrix_row = kTranspose ? across : along, column = kTranspose ? along : across;
      const unsigned long long base = __shfl_sync(~0u, reinterpret_cast<unsigned long long>(row), 8 * j + matrix_row);
      reinterpret_cast<unsigned short*>(base)[column] = static_cast<unsigned short>(r[j] >> (16 * half));
    }
  }
  __syncwarp();
#endif
}

// ---- mma.sync: d = a b + c. d and c may be the same registers.
//
// SIMT_MMA(name, PTX shape and types, accumulator type, its asm constraint, element on the CPU)
#if SIMT_HOST
#define SIMT_MMA(name, instruction, Accumulator, constraint, Element)                          \
  inline void name(Accumulator(&d)[4], const std::uint32_t(&a)[4], const std::uint32_t(&b)[2], \
                   const Accumulator(&c)[4] SIMT_AND_SITE) {                                   \
    host_matrix::multiply<host_matrix::Element>(d, a, b, c, site);                             \
  }
#else
#define SIMT_MMA(name, instruction, Accumulator, constraint, Element)                                         \
  SIMT_DEV void name(Accumulator(&d)[4], const std::uint32_t(&a)[4], const std::uint32_t(&b)[2],              \
                     const Accumulator(&c)[4]) {                                                              \
    asm volatile("mma.sync.aligned." instruction " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};" \
                 : "=" constraint(d[0]), "=" constraint(d[1]), "=" constraint(d[2]), "=" constraint(d[3])     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), constraint(c[0]),        \
                   constraint(c[1]), constraint(c[2]), constraint(c[3]));                                     \
  }
#endif
// clang-format off
SIMT_MMA(mma_bf16_16816, "m16n8k16.row.col.f32.bf16.bf16.f32", float, "f", Bf16)
SIMT_MMA(mma_f16_16816, "m16n8k16.row.col.f32.f16.f16.f32", float, "f", F16)
SIMT_MMA(mma_tf32_1688, "m16n8k8.row.col.f32.tf32.tf32.f32", float, "f", Tf32)  // operands: to_tf32()
SIMT_MMA(mma_s8_16832, "m16n8k32.row.col.s32.s8.s8.s32", int, "r", S8)
SIMT_MMA(mma_u8_16832, "m16n8k32.row.col.s32.u8.u8.s32", int, "r", U8)
#if SIMT_HOST || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
SIMT_MMA(mma_e4m3_16832, "m16n8k32.row.col.f32.e4m3.e4m3.f32", float, "f", E4m3)
SIMT_MMA(mma_e5m2_16832, "m16n8k32.row.col.f32.e5m2.e5m2.f32", float, "f", E5m2)
#else  // fp8 needs sm_89
SIMT_DEV void mma_e4m3_16832(float (&)[4], const std::uint32_t (&)[4], const std::uint32_t (&)[2],
                             const float (&)[4]) { __trap(); }
SIMT_DEV void mma_e5m2_16832(float (&)[4], const std::uint32_t (&)[4], const std::uint32_t (&)[2],
                             const float (&)[4]) { __trap(); }
#endif
// clang-format on
#undef SIMT_MMA

// float products as three of tf32 (3xtf32): d += a b but for the product of the lower parts. upper = to_tf32(x), lower =
// to_tf32(x - upper). Three instructions, smallest terms first; on the CPU they meet once.
SIMT_DEV void mma_3xtf32_1688(float (&d)[4], const std::uint32_t (&a_upper)[4], const std::uint32_t (&a_lower)[4],
                              const std::uint32_t (&b_upper)[2], const std::uint32_t (&b_lower)[2] SIMT_AND_SITE) {
#if SIMT_HOST
  host_matrix::multiply_3xtf32(d, a_upper, a_lower, b_upper, b_lower, site);
#else
  mma_tf32_1688(d, a_lower, b_upper, d);
  mma_tf32_1688(d, a_upper, b_lower, d);
  mma_tf32_1688(d, a_upper, b_upper, d);
#endif
}

}  // namespace simt
