// Decoupled look-back: the load of atomic_test and the smoke test for blocks that wait for blocks.
//
// y = inclusive scan of x; each block of 32 threads scans 32 elements and waits for blocks with a lower ticket alone.
//   x, y [32 blocks]    ticket: 0 at start    status [blocks]: 0 at start; state << 32 | sum, where state 1 means that
//   sum is the block's own and 2 that it includes everything before.
#pragma once

#include "cuda/simt/simt.cuh"

namespace simt::testing {

__global__ void look_back_kernel(const int* x, int* y, int* ticket, unsigned long long* status) {
  SIMT_SHARED(int, my_ticket);
  SIMT_SHARED(int, before);
  if (threadIdx.x == 0) my_ticket = atomicAdd(ticket, 1);
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x), block = my_ticket;
  int sum = x[block * 32 + lane];
  for (int offset = 1; offset < 32; offset *= 2) {
    const int other = __shfl_up_sync(~0u, sum, static_cast<unsigned>(offset));
    if (lane >= offset) sum += other;
  }
  const auto pack = [](int value, int state) {
    return static_cast<unsigned long long>(state) << 32 | static_cast<unsigned>(value);
  };
  if (lane == 31) {
    store_release(status + block, pack(sum, block == 0 ? 2 : 1));
    int total = 0;
    for (int b = block - 1; b >= 0;) {
      const unsigned long long word = load_acquire(status + b);
      const int state = static_cast<int>(word >> 32);
      if (state == 0) {
        spin_yield();
        continue;
      }
      total += static_cast<int>(word & 0xFFFFFFFFu);
      if (state == 2) break;
      --b;
    }
    if (block > 0) store_release(status + block, pack(total + sum, 2));
    before = total;
  }
  __syncthreads();
  y[block * 32 + lane] = before + sum;
}

}  // namespace simt::testing
