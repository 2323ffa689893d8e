// What an architecture cannot launch: threads, grid, shared memory.
#include "cuda/simt/mustfail/case.h"

namespace simt::mustfail {
namespace {

__global__ void store_ones(Memory m) {
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  if (thread < 32) m.y[blockIdx.y + thread] = 1;
}

constexpr unsigned kKilobyte = 1024;

template <bool kBad>
void threads_of_a_block(Memory m) {
  launch(store_ones, {.grid = 1, .block = kBad ? 1025 : 1024}, m);  // reported
}

template <bool kBad>
void threads_of_a_block_by_product(Memory m) {
  launch(store_ones, {.grid = 1, .block = dim3(32, kBad ? 33 : 32)}, m);  // reported
}

template <bool kBad>
void block_z(Memory m) {
  launch(store_ones, {.grid = 1, .block = dim3(1, 1, kBad ? 65 : 64)}, m);  // reported
}

template <bool kBad>
void grid_y(Memory m) {
  launch(store_ones, {.grid = dim3(1, kBad ? 65536 : 64), .block = 1}, m);  // reported
}

template <bool kBad>
void empty_grid(Memory m) {
  launch(store_ones, {.grid = kBad ? 0 : 1, .block = 32}, m);  // reported
}

template <bool kBad>
void shared_memory_of_sm_80(Memory m) {
  launch(store_ones, {.grid = 1, .block = 32, .smem = 163 * kKilobyte + (kBad ? 1 : 0)}, m);  // reported
}

template <bool kBad>
void shared_memory_of_sm_90(Memory m) {
  launch(store_ones, {.grid = 1, .block = 32, .smem = 227 * kKilobyte + (kBad ? 1 : 0)}, m);  // reported
}

template <bool kBad>
void shared_memory_of_sm_120(Memory m) {
  launch(store_ones, {.grid = 1, .block = 32, .smem = 99 * kKilobyte + (kBad ? 1 : 0)}, m);  // reported
}

template <bool kBad>
__global__ void static_shared_memory(Memory m) {
  struct Block {
    float values[kBad ? 12289 : 12288];  // 48 KB hold 12,288
  };
  SIMT_SHARED(Block, block);  // reported
  block.values[threadIdx.x] = m.x[threadIdx.x];
  m.y[threadIdx.x] = block.values[threadIdx.x];
}

// 160 KB of dynamic memory and 3 KB of static are what sm_80 has.
template <bool kBad>
__global__ void static_and_dynamic_shared_memory(Memory m) {
  struct Block {
    float values[kBad ? 769 : 768];
  };
  SIMT_SHARED(Block, block);  // reported
  block.values[threadIdx.x] = m.x[threadIdx.x];
  m.y[threadIdx.x] = block.values[threadIdx.x];
}

template <bool kBad>
__global__ void more_pieces_than_dynamic_shared_memory(Memory m) {
  SIMT_DYN_SMEM(raw);
  Carver carver(raw);
  const int t = static_cast<int>(threadIdx.x);
  float* a = carver.take<float>(32);
  float* b = carver.take<float>(kBad ? 33 : 32);  // reported
  a[t] = b[t] = m.x[t];
  m.y[t] = a[t] + b[t];
}

const Case kCases[] = {
    {"threads_of_a_block", threads_of_a_block<false>, threads_of_a_block<true>},
    {"threads_of_a_block_by_product", threads_of_a_block_by_product<false>, threads_of_a_block_by_product<true>},
    {"block_z", block_z<false>, block_z<true>},
    {"grid_y", grid_y<false>, grid_y<true>},
    {"empty_grid", empty_grid<false>, empty_grid<true>},
    {"shared_memory_of_sm_80", shared_memory_of_sm_80<false>, shared_memory_of_sm_80<true>, 80},
    {"shared_memory_of_sm_90", shared_memory_of_sm_90<false>, shared_memory_of_sm_90<true>, 90},
    {"shared_memory_of_sm_120", shared_memory_of_sm_120<false>, shared_memory_of_sm_120<true>, 120},
    {"static_shared_memory", static_shared_memory<false>, static_shared_memory<true>, {.grid = 1, .block = 32}},
    {"static_and_dynamic_shared_memory",
     static_and_dynamic_shared_memory<false>,
     static_and_dynamic_shared_memory<true>,
     {.grid = 1, .block = 32, .smem = 160 * kKilobyte},
     80},
    {"more_pieces_than_dynamic_shared_memory",
     more_pieces_than_dynamic_shared_memory<false>,
     more_pieces_than_dynamic_shared_memory<true>,
     {.grid = 1, .block = 32, .smem = 256}},
};

}  // namespace

std::span<const Case> launch_limit_cases() { return kCases; }

}  // namespace simt::mustfail
