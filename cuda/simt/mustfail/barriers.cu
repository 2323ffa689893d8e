// A block or warp barrier that is missing: a read before the write, a write before the read.
#include "cuda/simt/mustfail/case.h"

namespace simt::mustfail {
namespace {

template <bool kBad>
__global__ void block_read_after_write(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  s[t] = m.x[t];
  if (!kBad) __syncthreads();
  m.y[t] = s[63 - t];  // reported
}

template <bool kBad>
__global__ void block_write_after_read(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  s[t] = m.x[t];
  __syncthreads();
  const float other = s[63 - t];
  if (!kBad) __syncthreads();
  s[t] = 2 * other;  // reported
  __syncthreads();
  m.y[t] = s[63 - t];
}

template <bool kBad>
__global__ void warp_read_after_write(Memory m) {
  SIMT_SHARED(float[32], s);
  const int t = static_cast<int>(threadIdx.x);
  s[t] = m.x[t];
  if (!kBad) __syncwarp();
  m.y[t] = s[31 - t];  // reported
}

template <bool kBad>
__global__ void warp_write_after_read(Memory m) {
  SIMT_SHARED(float[32], s);
  const int t = static_cast<int>(threadIdx.x);
  s[t] = m.x[t];
  __syncwarp();
  const float other = s[t ^ 1];
  if (!kBad) __syncwarp();
  s[t] = 2 * other;  // reported
  __syncwarp();
  m.y[t] = s[t ^ 1];
}

// The barrier at the end of a loop keeps the next step's writes from this step's reads.
template <bool kBad>
__global__ void loop_without_its_second_barrier(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int step = 0; step < 3; ++step) {
    s[t] = m.x[step * 64 + t];  // reported
    __syncthreads();
    sum += s[63 - t];
    if (!kBad) __syncthreads();
  }
  m.y[t] = sum;
}

template <bool kBad>
__global__ void tree_without_barrier(Memory m) {
  SIMT_SHARED(float[128], s);
  const int t = static_cast<int>(threadIdx.x);
  s[t] = m.x[t];
  __syncthreads();
  for (int offset = 64; offset > 0; offset /= 2) {
    if (t < offset) s[t] += s[t + offset];  // reported
    if (!kBad) __syncthreads();
  }
  if (t == 0) m.y[0] = s[0];
}

template <bool kBad>
__global__ void broadcast_without_barrier(Memory m) {
  SIMT_SHARED(float, scale);
  const int t = static_cast<int>(threadIdx.x);
  if (t == 40) scale = m.x[3];
  if (!kBad) __syncthreads();
  m.y[t] = m.x[t] * scale;  // reported
}

// Two warps exchange, but each meets only itself.
template <bool kBad>
__global__ void barrier_of_one_warp(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  s[t] = m.x[t];
  named_barrier_sync(1 + (kBad ? t / 32 : 0), kBad ? 32 : 64);
  m.y[t] = s[63 - t];  // reported
}

// A shuffle meets the other lanes but orders no memory.
template <bool kBad>
__global__ void shuffle_for_a_barrier(Memory m) {
  SIMT_SHARED(float[32], s);
  const int t = static_cast<int>(threadIdx.x);
  s[t] = m.x[t];
  kBad ? static_cast<void>(__shfl_sync(~0u, t, 0)) : __syncwarp();
  m.y[t] = s[31 - t];  // reported
}

// With two buffers one barrier a step is enough; with one it is not.
template <bool kBad>
__global__ void one_buffer_for_two(Memory m) {
  SIMT_SHARED(float[2][64], s);
  const int t = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int step = 0; step < 3; ++step) {
    float* buffer = s[step % (kBad ? 1 : 2)];
    buffer[t] = m.x[step * 64 + t];  // reported
    __syncthreads();
    sum += buffer[63 - t];
  }
  m.y[t] = sum;
}

const Case kCases[] = {
    {"block_read_after_write", block_read_after_write<false>, block_read_after_write<true>, {.grid = 1, .block = 64}},
    {"block_write_after_read", block_write_after_read<false>, block_write_after_read<true>, {.grid = 1, .block = 64}},
    {"warp_read_after_write", warp_read_after_write<false>, warp_read_after_write<true>, {.grid = 1, .block = 32}},
    {"warp_write_after_read", warp_write_after_read<false>, warp_write_after_read<true>, {.grid = 1, .block = 32}},
    {"loop_without_its_second_barrier",
     loop_without_its_second_barrier<false>,
     loop_without_its_second_barrier<true>,
     {.grid = 1, .block = 64}},
    {"tree_without_barrier", tree_without_barrier<false>, tree_without_barrier<true>, {.grid = 1, .block = 128}},
    {"broadcast_without_barrier",
     broadcast_without_barrier<false>,
     broadcast_without_barrier<true>,
     {.grid = 1, .block = 64}},
    {"barrier_of_one_warp", barrier_of_one_warp<false>, barrier_of_one_warp<true>, {.grid = 1, .block = 64}},
    {"shuffle_for_a_barrier", shuffle_for_a_barrier<false>, shuffle_for_a_barrier<true>, {.grid = 1, .block = 32}},
    {"one_buffer_for_two", one_buffer_for_two<false>, one_buffer_for_two<true>, {.grid = 1, .block = 64}},
};

}  // namespace

std::span<const Case> barrier_cases() { return kCases; }

}  // namespace simt::mustfail
