// cp.async: global to shared memory without registers (sm_80).
//
// On the CPU a copy lands as the schedule says, at issue or when waited for; until then its destination is poison.
#pragma once

#include "cuda/simt/platform.cuh"
#include "cuda/simt/shared_memory.cuh"

namespace simt {

#if SIMT_HOST
void copy_async(void* to, const void* from, unsigned bytes, unsigned source_bytes, Site site);
void copy_async_commit();
void copy_async_wait(unsigned groups_left);
void copy_async_wait_all();
#endif

// Copies kBytes = 4, 8 or 16 bytes; only the first source_bytes are read, the rest becomes zero (all of it: `from` is
// not read at all). Both addresses aligned to kBytes. 16 bytes bypass L1 (.cg), the others do not.
template <int kBytes>
SIMT_DEV void cp_async(void* to, const void* from, int source_bytes = kBytes SIMT_AND_SITE) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async: 4, 8 or 16 bytes");
#if SIMT_HOST
  copy_async(to, from, kBytes, static_cast<unsigned>(source_bytes), site);
#else
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_addr(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(smem_addr(to)),
                 "l"(__cvta_generic_to_global(from)), "n"(kBytes), "r"(source_bytes)
                 : "memory");
  }
#endif
}
// With a predicate: false fills with zeros.
SIMT_DEV void cp_async16(void* to, const void* from, bool predicate = true SIMT_AND_SITE) {
#if SIMT_HOST
  cp_async<16>(to, from, predicate ? 16 : 0, site);
#else
  cp_async<16>(to, from, predicate ? 16 : 0);
#endif
}

// Closes the group of all copies since the last commit; a group may be empty.
SIMT_DEV void cp_async_commit() {
#if SIMT_HOST
  copy_async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most kGroupsLeft of this thread's groups are pending. Other threads see the data after a barrier.
template <int kGroupsLeft>
SIMT_DEV void cp_async_wait() {
#if SIMT_HOST
  copy_async_wait(kGroupsLeft);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
#endif
}
// Waits for all copies of this thread, committed or not.
SIMT_DEV void cp_async_wait_all() {
#if SIMT_HOST
  copy_async_wait_all();
#else
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace simt
