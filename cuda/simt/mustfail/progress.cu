// Threads that wait for what never comes: the executor says where, and no clock is needed.
#include "cuda/simt/mustfail/case.h"

namespace simt::mustfail {
namespace {

template <bool kBad>
__global__ void flag_that_nobody_sets(Memory m) {
  if (threadIdx.x == 0) store_release(m.flags + (kBad ? 1 : 0), 1);
  while (load_acquire(m.flags) == 0) spin_yield();  // reported
  m.y[threadIdx.x] = m.x[threadIdx.x];
}

// Blocks start in the order of their tickets: a lower one runs or has run, a higher one may never start.
template <bool kBad>
__global__ void wait_for_a_higher_ticket(Memory m) {
  if (threadIdx.x != 0) return;
  const int ticket = atomicAdd(m.flags, 1), awaited = ticket + (kBad ? 1 : -1);
  int* done = m.flags + 1;
  while (awaited >= 0 && load_acquire(done + awaited) == 0) spin_yield();  // reported
  m.y[ticket] = m.x[ticket];
  store_release(done + ticket, 1);
}

// All blocks wait for all: they must be resident together.
template <bool kBad>
void meeting_of_blocks(Memory m) {
  const auto meet = [](Memory n) {
    if (threadIdx.x == 0) {
      atomicAdd(n.flags, 1);
      while (load_acquire(n.flags) < static_cast<int>(gridDim.x)) spin_yield();  // reported
    }
    __syncthreads();
    n.y[blockIdx.x * blockDim.x + threadIdx.x] = 1;
  };
  launch(+meet, {.grid = 3, .block = 32, .group = kBad ? 1 : 3}, m);
}

template <bool kBad>
__global__ void meeting_of_one_block_too_many(Memory m) {
  if (threadIdx.x == 0) {
    atomicAdd(m.flags, 1);
    while (load_acquire(m.flags) < static_cast<int>(gridDim.x) + (kBad ? 1 : 0)) spin_yield();  // reported
  }
  __syncthreads();
  m.y[blockIdx.x * blockDim.x + threadIdx.x] = 1;
}

template <bool kBad>
__global__ void lock_that_is_kept(Memory m) {
  if (threadIdx.x % 32 != 0) return;
  while (atomicCAS(m.flags, 0, 1) != 0) spin_yield();  // reported
  __threadfence();
  m.y[0] += m.x[threadIdx.x];
  __threadfence();
  if (!kBad) atomicExch(m.flags, 0);
}

// The first thread waits for a flag that is set behind the barrier at which all wait for the first thread.
template <bool kBad>
__global__ void spin_before_the_barrier(Memory m) {
  if (threadIdx.x == 0) {
    while (load_acquire(m.flags) == 0) spin_yield();  // reported
  }
  if (kBad) __syncthreads();
  if (threadIdx.x == 40) store_release(m.flags, 1);
  __syncthreads();
  m.y[threadIdx.x] = m.x[threadIdx.x];
}

template <bool kBad>
__global__ void producer_that_does_not_arrive(Memory m) {
  SIMT_SHARED(float[32], s);
  const int t = static_cast<int>(threadIdx.x);
  if (t < 32) {
    s[t] = m.x[t];
    if (!kBad) named_barrier_arrive(1, 64);
  } else {
    named_barrier_sync(1, 64);  // reported
    m.y[t] = s[t - 32];
  }
}

// Each warp waits at a barrier that the other would reach next.
template <bool kBad>
__global__ void barriers_in_two_orders(Memory m) {
  const int first = kBad ? 1 + static_cast<int>(threadIdx.x) / 32 : 1;
  named_barrier_sync(first, 64);  // reported
  named_barrier_sync(3 - first, 64);
  m.y[threadIdx.x] = m.x[threadIdx.x];
}

const Case kCases[] = {
    {"flag_that_nobody_sets", flag_that_nobody_sets<false>, flag_that_nobody_sets<true>, {.grid = 1, .block = 64}},
    {"wait_for_a_higher_ticket",
     wait_for_a_higher_ticket<false>,
     wait_for_a_higher_ticket<true>,
     {.grid = 8, .block = 32}},
    {"meeting_of_blocks", meeting_of_blocks<false>, meeting_of_blocks<true>},
    {"meeting_of_one_block_too_many",
     meeting_of_one_block_too_many<false>,
     meeting_of_one_block_too_many<true>,
     {.grid = 3, .block = 32, .group = 3}},
    {"lock_that_is_kept", lock_that_is_kept<false>, lock_that_is_kept<true>, {.grid = 1, .block = 96}},
    {"spin_before_the_barrier",
     spin_before_the_barrier<false>,
     spin_before_the_barrier<true>,
     {.grid = 1, .block = 64}},
    {"producer_that_does_not_arrive",
     producer_that_does_not_arrive<false>,
     producer_that_does_not_arrive<true>,
     {.grid = 1, .block = 64}},
    {"barriers_in_two_orders", barriers_in_two_orders<false>, barriers_in_two_orders<true>, {.grid = 1, .block = 64}},
};

}  // namespace

std::span<const Case> progress_cases() { return kCases; }

}  // namespace simt::mustfail
