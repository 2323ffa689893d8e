// Two warps or two blocks at one address, of which one writes, with nothing that orders them.
#include "cuda/simt/mustfail/case.h"

namespace simt::mustfail {
namespace {

// ---- between warps

template <bool kBad>
__global__ void shared_counter(Memory m) {
  SIMT_SHARED(int, count);
  const int t = static_cast<int>(threadIdx.x);
  if (t == 0) count = 0;
  __syncthreads();
  if (t % 32 == 0) kBad ? count += t : atomicAdd(&count, t);  // reported
  __syncthreads();
  m.y[t] = static_cast<float>(count);
}

template <bool kBad>
__global__ void neighbours_in_place(Memory m) {
  SIMT_SHARED(float[2][65], s);
  const int t = static_cast<int>(threadIdx.x);
  s[0][t] = s[1][t] = m.x[t];
  if (t == 0) s[0][64] = 0;
  __syncthreads();
  s[kBad ? 0 : 1][t] = s[0][t] + s[0][t + 1];  // reported
  __syncthreads();
  m.y[t] = s[1][t];
}

template <bool kBad>
__global__ void rows_that_overlap(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  s[t / 32 * (kBad ? 31 : 32) + t % 32] = m.x[t];  // reported
  __syncthreads();
  m.y[t] = t == 63 ? 0 : s[t];
}

template <bool kBad>
__global__ void one_of_many_stores(Memory m) {
  SIMT_SHARED(float, last);
  const int t = static_cast<int>(threadIdx.x);
  if (t % 32 == 31 && (kBad || t == 63)) last = m.x[t];  // reported
  __syncthreads();
  m.y[t] = last;
}

// ---- between blocks

template <bool kBad>
__global__ void global_sum(Memory m) {
  const float v = m.x[blockIdx.x * blockDim.x + threadIdx.x];
  kBad ? m.y[threadIdx.x] += v : atomicAdd(&m.y[threadIdx.x], v);  // reported
}

template <bool kBad>
__global__ void tiles_that_overlap(Memory m) {
  const int i = static_cast<int>(blockIdx.x) * (kBad ? 31 : 32) + static_cast<int>(threadIdx.x);
  m.y[i] = m.x[i];  // reported
}

// Every block does all of the work, and writes the same values.
template <bool kBad>
__global__ void stride_of_a_block_for_the_grid(Memory m) {
  const int stride = static_cast<int>(kBad ? blockDim.x : blockDim.x * gridDim.x);
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < Memory::kLength; i += stride) {
    m.y[i] = 2 * m.x[i];  // reported
  }
}

// The last block to finish adds up what the others stored before they took their number.
template <bool kBad>
__global__ void last_block_without_a_fence(Memory m) {
  if (threadIdx.x != 0) return;
  m.unset[blockIdx.x] = m.x[blockIdx.x];
  if (!kBad) __threadfence();
  if (atomicAdd(m.flags, 1) != static_cast<int>(gridDim.x) - 1) return;
  __threadfence();
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += m.unset[i];  // reported
  m.y[0] = sum;
}

template <bool kBad>
__global__ void flag_without_release(Memory m) {
  if (blockIdx.x == 0) {
    m.unset[threadIdx.x] = m.x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) kBad ? static_cast<void>(atomicExch(m.flags, 1)) : store_release(m.flags, 1);
  } else {
    while (load_acquire(m.flags) == 0) spin_yield();
    m.y[threadIdx.x] = m.unset[threadIdx.x];  // reported
  }
}

template <bool kBad>
__global__ void flag_without_acquire(Memory m) {
  if (blockIdx.x == 0) {
    m.unset[threadIdx.x] = m.x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) store_release(m.flags, 1);
  } else {
    while ((kBad ? atomicAdd(m.flags, 0) : load_acquire(m.flags)) == 0) spin_yield();
    m.y[threadIdx.x] = m.unset[threadIdx.x];  // reported
  }
}

const Case kCases[] = {
    {"shared_counter", shared_counter<false>, shared_counter<true>, {.grid = 1, .block = 64}},
    {"neighbours_in_place", neighbours_in_place<false>, neighbours_in_place<true>, {.grid = 1, .block = 64}},
    {"rows_that_overlap", rows_that_overlap<false>, rows_that_overlap<true>, {.grid = 1, .block = 64}},
    {"one_of_many_stores", one_of_many_stores<false>, one_of_many_stores<true>, {.grid = 1, .block = 64}},
    {"global_sum", global_sum<false>, global_sum<true>, {.grid = 3, .block = 32}},
    {"tiles_that_overlap", tiles_that_overlap<false>, tiles_that_overlap<true>, {.grid = 3, .block = 32}},
    {"stride_of_a_block_for_the_grid",
     stride_of_a_block_for_the_grid<false>,
     stride_of_a_block_for_the_grid<true>,
     {.grid = 2, .block = 32}},
    {"last_block_without_a_fence",
     last_block_without_a_fence<false>,
     last_block_without_a_fence<true>,
     {.grid = 3, .block = 32}},
    {"flag_without_release",
     flag_without_release<false>,
     flag_without_release<true>,
     {.grid = 2, .block = 32, .group = 2}},
    {"flag_without_acquire",
     flag_without_acquire<false>,
     flag_without_acquire<true>,
     {.grid = 2, .block = 32, .group = 2}},
};

}  // namespace

std::span<const Case> race_cases() { return kCases; }

}  // namespace simt::mustfail
