// Atomics on global and shared memory, fences, ordered accesses.
#include <algorithm>

#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"
#include "cuda/simt/selftest/operands.h"

namespace simt::selftest {
namespace {

// ---- one operation a thread: old value and new one. kShared: on a copy in shared memory.

#define SIMT_ATOMIC(Name, call, model)                                                    \
  struct Name {                                                                           \
    template <class T>                                                                    \
    static SIMT_DEV T apply(T* p, [[maybe_unused]] T a, [[maybe_unused]] T b) {           \
      return call;                                                                        \
    }                                                                                     \
    template <class T>                                                                    \
    static T wanted([[maybe_unused]] T old, [[maybe_unused]] T a, [[maybe_unused]] T b) { \
      return model;                                                                       \
    }                                                                                     \
  };
template <class T>
T wrapped_add(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    return a + b;
  } else {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  }
}
template <class T>
T wrapped_subtract(T a, T b) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(static_cast<U>(a) - static_cast<U>(b));
}
SIMT_ATOMIC(Add, atomicAdd(p, a), wrapped_add(old, a))
SIMT_ATOMIC(Sub, atomicSub(p, a), wrapped_subtract(old, a))
SIMT_ATOMIC(Min, atomicMin(p, a), std::min(old, a))
SIMT_ATOMIC(Max, atomicMax(p, a), std::max(old, a))
SIMT_ATOMIC(And, atomicAnd(p, a), static_cast<T>(old& a))
SIMT_ATOMIC(Or, atomicOr(p, a), static_cast<T>(old | a))
SIMT_ATOMIC(Xor, atomicXor(p, a), static_cast<T>(old ^ a))
SIMT_ATOMIC(Inc, atomicInc(p, a), old >= a ? 0 : old + 1)
SIMT_ATOMIC(Dec, atomicDec(p, a), old == 0 || old > a ? a : old - 1)
SIMT_ATOMIC(Exch, atomicExch(p, a), a)
SIMT_ATOMIC(Cas, atomicCAS(p, a, b), old == a ? b : old)
#undef SIMT_ATOMIC

constexpr unsigned kThreads = 128;
constexpr std::size_t kCount = 24 * kThreads;

template <class Operation, bool kShared, class T>
__global__ void single_kernel(T* old, T* slots, const T* a, const T* b) {
  SIMT_SHARED(T[kThreads], copies);
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  if constexpr (kShared) {
    copies[threadIdx.x] = slots[i];
    old[i] = Operation::apply(&copies[threadIdx.x], a[i], b[i]);
    slots[i] = copies[threadIdx.x];
  } else {
    old[i] = Operation::apply(&slots[i], a[i], b[i]);
  }
}

template <class T>
std::vector<T> any_values(unsigned seed) {
  if constexpr (std::is_same_v<T, float>) {
    return shuffled(any_floats(kCount, seed), seed);
  } else if constexpr (std::is_same_v<T, double>) {
    const std::vector<float> x = shuffled(any_floats(kCount, seed), seed);
    return {x.begin(), x.end()};
  } else {
    return shuffled(any_integers<T>(kCount, seed), seed);
  }
}
// atom.add.f32 on global memory flushes denormal operands and results (PTX ISA, atom); on shared memory it keeps them.
// Whoever executes may do either.
inline float flushed(float x) { return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }

template <class Operation, bool kShared, class T>
void single_of(Check& check) {
  const std::vector<T> before = any_values<T>(1), b = any_values<T>(3);
  std::vector<T> a = any_values<T>(2);
  for (std::size_t i = 0; i < kCount; i += 2) {
    if (std::is_same_v<Operation, Cas>) a[i] = before[i];
  }
  const Array<T> old(kCount), slots(before);
  run(single_kernel<Operation, kShared, T>, kCount / kThreads, kThreads, old, slots, Array<T>(a), Array<T>(b));
  const std::vector<T> got_old = old.host(), got = slots.host();
  for (std::size_t i = 0; i < kCount; ++i) {
    const auto describe = [&] {
      return std::string(kShared ? "shared, " : "global, ") + operands("old", before[i], "a", a[i], "b", b[i]);
    };
    check.equal(got_old[i], before[i], describe);
    const T wanted = Operation::wanted(before[i], a[i], b[i]);
    if constexpr (std::is_same_v<Operation, Add> && std::is_same_v<T, float> && !kShared) {
      const float with_flush = flushed(flushed(before[i]) + flushed(a[i]));
      check.equal(got[i], got[i] == with_flush ? got[i] : wanted, describe);
    } else {
      check.equal(got[i], wanted, describe);
    }
  }
}
template <class Operation, class... T>
void single_test(Check& check) {
  (single_of<Operation, false, T>(check), ...);
  (single_of<Operation, true, T>(check), ...);
}

// ---- all threads on one word: nothing is lost, every old value was seen once

template <class T>
__global__ void ticket_kernel(T* counter, T* tickets) {
  SIMT_SHARED(unsigned, block_total);
  if (threadIdx.x == 0) block_total = 0;
  __syncthreads();
  tickets[blockIdx.x * kThreads + threadIdx.x] = atomicAdd(counter, static_cast<T>(1));
  atomicAdd(&block_total, 1u);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(counter + 1, static_cast<T>(block_total));
}
template <class T>
void tickets_of(Check& check) {
  const Array<T> counter(std::vector<T>{0, 0}), tickets(kCount);
  run(ticket_kernel<T>, kCount / kThreads, kThreads, counter, tickets);
  const std::vector<T> counts = counter.host();
  std::vector<T> seen = tickets.host();
  std::sort(seen.begin(), seen.end());
  for (std::size_t i = 0; i < kCount; ++i)
    check.equal(seen[i], static_cast<T>(i), [&] { return operands("ticket", i); });
  for (const T count : counts) check.equal(count, static_cast<T>(kCount), [] { return std::string("counter"); });
}
void tickets_test(Check& check) {
  tickets_of<int>(check);
  tickets_of<unsigned>(check);
  tickets_of<unsigned long long>(check);
  tickets_of<float>(check);
  tickets_of<double>(check);
}

// ---- packed halves: values whose sums are exact

template <class H2, class H>
__global__ void packed_kernel(H2* slots, H* single, const float* x) {
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  H2 pair;
  pair.x = static_cast<H>(x[i]);
  pair.y = static_cast<H>(-2 * x[i]);
  atomicAdd(&slots[threadIdx.x], pair);
  atomicAdd(&single[threadIdx.x], static_cast<H>(x[i]));
}
template <class H2, class H>
void packed_test(Check& check) {
  constexpr unsigned kBlocks = 8;
  std::vector<float> x;
  Random random(5);
  for (unsigned i = 0; i < kBlocks * kThreads; ++i)
    x.push_back(static_cast<float>(static_cast<int>(random() % 17) - 8));
  const Array<H2> slots(std::vector<H2>(kThreads, bits_as<H2>(0u)));
  const Array<H> single(std::vector<H>(kThreads, bits_as<H>(std::uint16_t{0})));
  run(packed_kernel<H2, H>, kBlocks, kThreads, slots, single, Array<float>(x));
  const std::vector<H2> pairs = slots.host();
  const std::vector<H> singles = single.host();
  for (unsigned i = 0; i < kThreads; ++i) {
    float sum = 0;
    for (unsigned b = 0; b < kBlocks; ++b) sum += x[b * kThreads + i];
    const auto describe = [&] { return operands("slot", i); };
    check.equal(static_cast<float>(pairs[i].x) + 0.0f, sum + 0.0f, describe);
    check.equal(static_cast<float>(pairs[i].y) + 0.0f, -2 * sum + 0.0f, describe);
    check.equal(static_cast<float>(singles[i]) + 0.0f, sum + 0.0f, describe);
  }
}

// ---- messages from one warp of a block to the other

enum class Fence { kBlock, kDevice, kSystem, kRelease4, kRelease8 };

template <Fence kFence, class Flag>
__global__ void message_kernel(int* out, int* data, Flag* flag) {
  const unsigned lane = threadIdx.x % 32;
  if (threadIdx.x >= 32) {
    data[lane] = 1000 + static_cast<int>(lane);
    if constexpr (kFence == Fence::kBlock) __threadfence_block();
    if constexpr (kFence == Fence::kDevice) __threadfence();
    if constexpr (kFence == Fence::kSystem) __threadfence_system();
    if constexpr (kFence == Fence::kRelease4 || kFence == Fence::kRelease8) {
      store_release(&flag[lane], Flag{1});
    } else {
      atomicExch(&flag[lane], Flag{1});
    }
  } else {
    if constexpr (kFence == Fence::kRelease4 || kFence == Fence::kRelease8) {
      while (load_acquire(&flag[lane]) == 0) spin_yield();
    } else {
      while (atomicAdd(&flag[lane], Flag{0}) == 0) spin_yield();
      if constexpr (kFence == Fence::kBlock) __threadfence_block();
      if constexpr (kFence == Fence::kDevice) __threadfence();
      if constexpr (kFence == Fence::kSystem) __threadfence_system();
    }
    out[lane] = data[lane];
  }
}
template <Fence kFence, class Flag = unsigned>
void message_test(Check& check) {
  const Array<int> out(32), data(32);
  const Array<Flag> flag(std::vector<Flag>(32, 0));
  run(message_kernel<kFence, Flag>, 1, 64, out, data, flag);
  const std::vector<int> got = out.host();
  for (int lane = 0; lane < 32; ++lane) {
    check.equal(got[static_cast<std::size_t>(lane)], 1000 + lane, [&] { return operands("lane", lane); });
  }
}

using LongLong = long long;
using UnsignedLong = unsigned long long;

}  // namespace

std::vector<Test> atomic_tests() {
  return {
      {"atomic.atomicAdd", single_test<Add, int, unsigned, UnsignedLong, float, double>,
       "atom.add.u32, .u64, .f32, .f64"},
      {"atomic.atomicAdd/one_word", tickets_test, "atom.add.u32, .u64, .f32, .f64"},
      {"atomic.atomicAdd/half", packed_test<__half2, __half>, "atom.add.noftz.f16x2, .f16"},
      {"atomic.atomicAdd/bfloat16", packed_test<__nv_bfloat162, __nv_bfloat16>,
       "atom.add.noftz.bf16x2, .bf16 (sm_90), atom.cas"},
      {"atomic.atomicSub", single_test<Sub, int, unsigned>, "atom.add.u32"},
      {"atomic.atomicMin", single_test<Min, int, unsigned, LongLong, UnsignedLong>, "atom.min.s32, .u32, .s64, .u64"},
      {"atomic.atomicMax", single_test<Max, int, unsigned, LongLong, UnsignedLong>, "atom.max.s32, .u32, .s64, .u64"},
      {"atomic.atomicAnd", single_test<And, int, unsigned, LongLong, UnsignedLong>, "atom.and.b32, .b64"},
      {"atomic.atomicOr", single_test<Or, int, unsigned, LongLong, UnsignedLong>, "atom.or.b32, .b64"},
      {"atomic.atomicXor", single_test<Xor, int, unsigned, LongLong, UnsignedLong>, "atom.xor.b32, .b64"},
      {"atomic.atomicInc", single_test<Inc, unsigned>, "atom.inc.u32"},
      {"atomic.atomicDec", single_test<Dec, unsigned>, "atom.dec.u32"},
      {"atomic.atomicExch", single_test<Exch, int, unsigned, UnsignedLong, float>, "atom.exch.b32, .b64"},
      {"atomic.atomicCAS", single_test<Cas, int, unsigned, UnsignedLong>, "atom.cas.b32, .b64"},
      {"atomic.atomicCAS/16_bits", single_test<Cas, unsigned short>, "atom.cas.b16"},
      {"atomic.__threadfence_block", message_test<Fence::kBlock>, "membar.cta, nanosleep.u32"},
      {"atomic.__threadfence", message_test<Fence::kDevice>, "membar.gl, nanosleep.u32"},
      {"atomic.__threadfence_system", message_test<Fence::kSystem>, "membar.sys, nanosleep.u32"},
      {"atomic.load_acquire", message_test<Fence::kRelease4, unsigned>,
       "ld.acquire.gpu.u32, st.release.gpu.u32, nanosleep.u32"},
      {"atomic.store_release", message_test<Fence::kRelease8, unsigned long long>,
       "ld.acquire.gpu.u64, st.release.gpu.u64, nanosleep.u32"}};
}

}  // namespace simt::selftest
