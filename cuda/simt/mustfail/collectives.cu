// Warp-wide operations and barriers that not everybody named in them reaches.
#include "cuda/simt/mustfail/case.h"

namespace simt::mustfail {
namespace {

template <bool kBad>
__global__ void shuffle_in_a_branch(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  float v = m.x[t];
  if (!kBad || t < 16) v = __shfl_xor_sync(~0u, v, 1);  // reported
  __syncwarp();
  m.y[t] = v;
}

template <bool kBad>
__global__ void lane_not_in_its_mask(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  m.y[t] = __shfl_xor_sync(kBad ? 0x7FFFFFFFu : ~0u, m.x[t], 1);  // reported
}

// Only half of the warp comes by, but the mask waits for all of it.
template <bool kBad>
__global__ void mask_of_those_who_do_not_come(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  float v = m.x[t];
  if (t < 16) {
    v = __shfl_xor_sync(kBad ? ~0u : 0xFFFFu, v, 1);  // reported
  }
  __syncthreads();
  m.y[t] = v;
}

template <bool kBad>
__global__ void source_lane_outside_the_mask(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  if (t >= 16) return;
  m.y[t] = __shfl_sync(0xFFFFu, m.x[t], kBad ? 20 : 4);  // reported
}

template <bool kBad>
__global__ void masks_that_overlap(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  if (t < 16) {
    __syncwarp(0x0000FFFFu);
  } else {
    __syncwarp(kBad ? ~0u : 0xFFFF0000u);  // reported
  }
  __syncthreads();
  m.y[t] = m.x[t];
}

template <bool kBad>
__global__ void barrier_in_a_branch(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  if (kBad && t >= 32) __syncthreads();  // reported
  __syncthreads();
  m.y[t] = m.x[t];
}

template <bool kBad>
__global__ void width_no_power_of_two(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  m.y[t] = __shfl_sync(~0u, m.x[t], 0, kBad ? 24 : 16);  // reported
}

template <bool kBad>
__global__ void votes_that_differ(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  int all = 1;
  if (t < 16) {
    all = __all_sync(kBad ? ~0u : 0x0000FFFFu, t < 32);  // reported
  } else {
    all = __any_sync(0xFFFF0000u, t < 32);
  }
  __syncthreads();
  m.y[t] = static_cast<float>(all);
}

struct alignas(16) Tile {
  __nv_bfloat16 rows[8][8];
};

// A matrix instruction needs the whole warp, of which a lane has gone.
template <bool kBad>
__global__ void matrix_without_a_lane(Memory m) {
  SIMT_SHARED(Tile, shared);
  auto& tile = shared.rows;
  const int t = static_cast<int>(threadIdx.x);
  tile[t / 4][2 * (t % 4)] = tile[t / 4][2 * (t % 4) + 1] = __float2bfloat16(m.x[t]);
  __syncwarp();
  if (kBad && t == 31) return;
  std::uint32_t r[1];
  ldmatrix(r, tile[t % 8]);  // reported
  m.y[t] = static_cast<float>(r[0] >> 16);
}

template <bool kBad>
__global__ void barrier_for_an_odd_count(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  named_barrier_sync(1, kBad ? 48 : 64);  // reported
  m.y[t] = m.x[t];
}

const Case kCases[] = {
    {"shuffle_in_a_branch", shuffle_in_a_branch<false>, shuffle_in_a_branch<true>, {.grid = 1, .block = 32}},
    {"lane_not_in_its_mask", lane_not_in_its_mask<false>, lane_not_in_its_mask<true>, {.grid = 1, .block = 32}},
    {"mask_of_those_who_do_not_come",
     mask_of_those_who_do_not_come<false>,
     mask_of_those_who_do_not_come<true>,
     {.grid = 1, .block = 64}},
    {"source_lane_outside_the_mask",
     source_lane_outside_the_mask<false>,
     source_lane_outside_the_mask<true>,
     {.grid = 1, .block = 32}},
    {"masks_that_overlap", masks_that_overlap<false>, masks_that_overlap<true>, {.grid = 1, .block = 32}},
    {"barrier_in_a_branch", barrier_in_a_branch<false>, barrier_in_a_branch<true>, {.grid = 1, .block = 64}},
    {"width_no_power_of_two", width_no_power_of_two<false>, width_no_power_of_two<true>, {.grid = 1, .block = 32}},
    {"votes_that_differ", votes_that_differ<false>, votes_that_differ<true>, {.grid = 1, .block = 32}},
    {"matrix_without_a_lane", matrix_without_a_lane<false>, matrix_without_a_lane<true>, {.grid = 1, .block = 32}},
    {"barrier_for_an_odd_count",
     barrier_for_an_odd_count<false>,
     barrier_for_an_odd_count<true>,
     {.grid = 1, .block = 64}},
};

}  // namespace

std::span<const Case> collective_cases() { return kCases; }

}  // namespace simt::mustfail
