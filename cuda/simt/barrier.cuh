// Block barriers. On a GPU these are CUDA's own.
#pragma once

#include "cuda/simt/platform.cuh"

#if SIMT_HOST
inline void __syncthreads(SIMT_SITE) { simt::barrier_sync(0, -1, 0, simt::Reduction::kNone, site); }
inline int __syncthreads_count(int predicate SIMT_AND_SITE) {
  return simt::barrier_sync(0, -1, predicate, simt::Reduction::kCount, site);
}
inline int __syncthreads_and(int predicate SIMT_AND_SITE) {
  return simt::barrier_sync(0, -1, predicate, simt::Reduction::kAnd, site);
}
inline int __syncthreads_or(int predicate SIMT_AND_SITE) {
  return simt::barrier_sync(0, -1, predicate, simt::Reduction::kOr, site);
}
inline void __nanosleep(unsigned SIMT_AND_SITE) { simt::spin_yield(site); }
[[noreturn]] inline void __trap(SIMT_SITE) { simt::fail("__trap", site); }
#else
namespace simt {
// In a loop that waits for memory written by another thread or block.
SIMT_DEV void spin_yield() { __nanosleep(20); }
}  // namespace simt
#endif

namespace simt {

// bar.sync / bar.arrive: barrier `id` (1..15) for `threads` threads (a multiple of 32), those that arrive included.
SIMT_DEV void named_barrier_sync(int id, int threads SIMT_AND_SITE) {
#if SIMT_HOST
  barrier_sync(id, threads, 0, Reduction::kNone, site);
#else
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}
SIMT_DEV void named_barrier_arrive(int id, int threads SIMT_AND_SITE) {
#if SIMT_HOST
  barrier_arrive(id, threads, site);
#else
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

}  // namespace simt
