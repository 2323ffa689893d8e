// Addresses that the width of an access does not divide.
#include "cuda/simt/mustfail/case.h"

namespace simt::mustfail {
namespace {

template <bool kBad>
__global__ void vector_load(Memory m) {
  const int i = static_cast<int>(threadIdx.x) * (kBad ? 3 : 4);
  const Vec<float, 4> v = load_vec<4>(m.x + i);  // reported
  m.y[threadIdx.x] = v[0] + v[3];
}

template <bool kBad>
__global__ void vector_store(Memory m) {
  const int i = static_cast<int>(threadIdx.x) * 4 + (kBad ? 2 : 0);
  store_vec(m.y + i, Vec<float, 4>{1, 2, 3, 4});  // reported
}

// Half a vector off: right for 4 bytes, wrong for 8.
template <bool kBad>
__global__ void bfloat16_vector_load(Memory m) {
  const auto* x = reinterpret_cast<const __nv_bfloat16*>(m.x);
  const int i = static_cast<int>(threadIdx.x) * 4 + (kBad ? 2 : 0);
  const Vec<__nv_bfloat16, 4> v = load_vec<4>(x + i);  // reported
  m.y[threadIdx.x] = __bfloat162float(v[0]);
}

// A cast instead of load_vec: only a sanitizer looks.
template <bool kBad>
__global__ void float2_by_a_cast(Memory m) {
  const int i = static_cast<int>(threadIdx.x) * 4 + (kBad ? 1 : 0);
  const float2 v = *reinterpret_cast<const float2*>(m.x + i);  // reported
  m.y[threadIdx.x] = v.x + v.y;
}

template <bool kBad>
__global__ void copy_destination(Memory m) {
  SIMT_SHARED(float4[64], s);
  const int t = static_cast<int>(threadIdx.x);
  cp_async<16>(reinterpret_cast<float*>(s) + t * 4 + (kBad ? 1 : 0), m.x + t * 4);  // reported
  cp_async_wait_all();
  m.y[t] = s[t].x;
}

template <bool kBad>
__global__ void copy_source(Memory m) {
  SIMT_SHARED(float4[32], s);
  const int t = static_cast<int>(threadIdx.x);
  cp_async<16>(&s[t], m.x + t * 4 + (kBad ? 2 : 0));  // reported
  cp_async_wait_all();
  m.y[t] = s[t].x;
}

struct alignas(16) Tile {
  __nv_bfloat16 elements[8 * 16];
};

// Rows of 12 bfloat16 are 24 bytes: every second one is misaligned for ldmatrix.
template <bool kBad>
__global__ void matrix_row(Memory m) {
  SIMT_SHARED(Tile, tile);
  const int t = static_cast<int>(threadIdx.x);
  for (int i = t; i < 8 * 16; i += 32) tile.elements[i] = __float2bfloat16(m.x[i]);
  __syncwarp();
  std::uint32_t r[1];
  ldmatrix(r, &tile.elements[t % 8 * (kBad ? 12 : 16)]);  // reported
  m.y[t] = static_cast<float>(r[0] >> 16);
}

template <bool kBad>
__global__ void atomic(Memory m) {
  auto* bytes = reinterpret_cast<unsigned char*>(m.flags);
  atomicAdd(reinterpret_cast<int*>(bytes + (kBad ? 2 : 4)), 1);  // reported
}

// A piece of 3 bfloat16, then one that is to hold vectors but asks for the alignment of its elements.
template <bool kBad>
__global__ void piece_of_shared_memory(Memory m) {
  SIMT_DYN_SMEM(raw);
  Carver carver(raw);
  const int t = static_cast<int>(threadIdx.x);
  carver.take<__nv_bfloat16>(3);
  float* vectors = carver.take<float>(4 * 32, kBad ? 4 : 16);
  store_vec(vectors + 4 * t, Vec<float, 4>{1, 2, 3, m.x[t]});  // reported
  m.y[t] = vectors[4 * t + 3];
}

const Case kCases[] = {
    {"vector_load", vector_load<false>, vector_load<true>, {.grid = 1, .block = 32}},
    {"vector_store", vector_store<false>, vector_store<true>, {.grid = 1, .block = 32}},
    {"bfloat16_vector_load", bfloat16_vector_load<false>, bfloat16_vector_load<true>, {.grid = 1, .block = 32}},
    {"float2_by_a_cast", float2_by_a_cast<false>, float2_by_a_cast<true>, {.grid = 1, .block = 32}},
    {"copy_destination", copy_destination<false>, copy_destination<true>, {.grid = 1, .block = 32}},
    {"copy_source", copy_source<false>, copy_source<true>, {.grid = 1, .block = 32}},
    {"matrix_row", matrix_row<false>, matrix_row<true>, {.grid = 1, .block = 32}},
    {"atomic", atomic<false>, atomic<true>, {.grid = 1, .block = 32}},
    {"piece_of_shared_memory",
     piece_of_shared_memory<false>,
     piece_of_shared_memory<true>,
     {.grid = 1, .block = 32, .smem = 1024}},
};

}  // namespace

std::span<const Case> alignment_cases() { return kCases; }

}  // namespace simt::mustfail
