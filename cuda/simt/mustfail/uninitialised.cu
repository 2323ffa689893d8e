// Reads of what nobody wrote: shared memory, arrays in registers, global memory.
#include "cuda/simt/mustfail/case.h"

namespace simt::mustfail {
namespace {

template <bool kBad>
__global__ void last_element_of_shared(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  if (t < (kBad ? 63 : 64)) s[t] = m.x[t];
  __syncthreads();
  m.y[t] = s[63 - t];  // reported
}

// Four partial sums, of which two warps write two.
template <bool kBad>
__global__ void partials_of_warps_that_are_not_there(Memory m) {
  SIMT_SHARED(float[4], partial);
  const int t = static_cast<int>(threadIdx.x);
  if (t % 32 == 0) partial[t / 32] = m.x[t];
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < (kBad ? 4 : 2); ++i) sum += partial[i];
  m.y[t] = sum;  // reported
}

template <bool kBad>
__global__ void padding_of_a_tile(Memory m) {
  SIMT_SHARED(float[8][9], tile);
  const int t = static_cast<int>(threadIdx.x);
  tile[t / 8][t % 8] = m.x[t];
  __syncthreads();
  m.y[t] = tile[t % 8][t / 8 + (kBad ? 1 : 0)];  // reported
}

template <bool kBad>
__global__ void branch_on_shared(Memory m) {
  SIMT_SHARED(int, enabled);
  const int t = static_cast<int>(threadIdx.x);
  if (t == 0 && !kBad) enabled = 1;
  __syncthreads();
  if (enabled > 0) m.y[t] = m.x[t];  // reported
}

template <bool kBad>
__global__ void last_register_of_an_array(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  float r[4];
  for (int i = 0; i < (kBad ? 3 : 4); ++i) r[i] = m.x[t + i];
  m.y[t] = r[(t + 1) % 4];  // reported
}

template <bool kBad>
__global__ void accumulators_not_cleared(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  float sum[4];
  for (int i = 0; i < (kBad ? 0 : 4); ++i) sum[i] = 0;
  for (int i = 0; i < 8; ++i) sum[(t + i) % 4] += m.x[t + i];
  m.y[t] = sum[0] + sum[1] + sum[2] + sum[3];  // reported
}

// The registers of the matrix accumulator that the first half of the warp has cleared.
template <bool kBad>
__global__ void accumulator_of_a_matrix(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  const std::uint32_t a[4] = {1, 2, 3, 4}, b[2] = {5, 6};
  int sum[4];
  for (int i = 0; i < (kBad && t >= 16 ? 2 : 4); ++i) sum[i] = 0;
  mma_s8_16832(sum, a, b, sum);
  m.y[t] = static_cast<float>(sum[t % 4]);  // reported
}

template <bool kBad>
__global__ void shuffled_from_lanes_that_had_none(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  float v[1];
  if (!kBad || t < 16) v[0] = m.x[t];
  m.y[t] = __shfl_xor_sync(~0u, v[0], 16);  // reported
}

template <bool kBad>
__global__ void last_element_of_global(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  if (t < (kBad ? 63 : 64)) m.unset[t] = m.x[t];
  __syncthreads();
  m.y[t] = m.unset[63 - t];  // reported
}

template <bool kBad>
__global__ void accumulated_into_global(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  float* sums = kBad ? m.unset : m.y;
  sums[t] += m.x[t];
  m.y[t] = sums[t];  // reported
}

template <bool kBad>
__global__ void index_from_global(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  const int index = reinterpret_cast<const int*>(kBad ? m.unset : m.y)[t];
  m.y[t] = m.x[index & 63];  // reported
}

const Case kCases[] = {
    {"last_element_of_shared", last_element_of_shared<false>, last_element_of_shared<true>, {.grid = 1, .block = 64}},
    {"partials_of_warps_that_are_not_there",
     partials_of_warps_that_are_not_there<false>,
     partials_of_warps_that_are_not_there<true>,
     {.grid = 1, .block = 64}},
    {"padding_of_a_tile", padding_of_a_tile<false>, padding_of_a_tile<true>, {.grid = 1, .block = 64}},
    {"branch_on_shared", branch_on_shared<false>, branch_on_shared<true>, {.grid = 1, .block = 64}},
    {"last_register_of_an_array",
     last_register_of_an_array<false>,
     last_register_of_an_array<true>,
     {.grid = 1, .block = 64}},
    {"accumulators_not_cleared",
     accumulators_not_cleared<false>,
     accumulators_not_cleared<true>,
     {.grid = 1, .block = 64}},
    {"accumulator_of_a_matrix",
     accumulator_of_a_matrix<false>,
     accumulator_of_a_matrix<true>,
     {.grid = 1, .block = 32}},
    {"shuffled_from_lanes_that_had_none",
     shuffled_from_lanes_that_had_none<false>,
     shuffled_from_lanes_that_had_none<true>,
     {.grid = 1, .block = 32}},
    {"last_element_of_global", last_element_of_global<false>, last_element_of_global<true>, {.grid = 1, .block = 64}},
    {"accumulated_into_global",
     accumulated_into_global<false>,
     accumulated_into_global<true>,
     {.grid = 1, .block = 64}},
    {"index_from_global", index_from_global<false>, index_from_global<true>, {.grid = 1, .block = 64}},
};

}  // namespace

std::span<const Case> uninitialised_cases() { return kCases; }

}  // namespace simt::mustfail
