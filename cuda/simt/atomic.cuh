// Atomics, fences and ordered accesses. On a GPU the atomics and fences are CUDA's own; they are relaxed, as there.
#pragma once

#include "cuda/simt/platform.cuh"

#if SIMT_HOST
namespace simt::host_atomic {

inline void check(const void* p, std::size_t bytes, Site site) {
  if (reinterpret_cast<std::uintptr_t>(p) % bytes == 0) return;
  fail("atomic: address is not aligned to its " + std::to_string(bytes) + " bytes", site);
}

// TSan knows no fences. What a fence means for it: writes before a fence are published by the thread's later atomics,
// and what the thread's last atomics observed is acquired by the fence.
inline void before([[maybe_unused]] void* p) {
#if defined(SIMT_TSAN)
  if (self().has_fenced) hb_release(p);
#endif
}
inline void after([[maybe_unused]] void* p) {
#if defined(SIMT_TSAN)
  Thread& thread = self();
  thread.observed[thread.observations++ % kObserved] = p;
#endif
}
inline void fence() {
#if defined(SIMT_TSAN)
  Thread& thread = self();
  thread.has_fenced = true;
  for (void* p : thread.observed) {
    if (p != nullptr) hb_acquire(p);
  }
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

template <class T>
using bits_t = std::conditional_t<sizeof(T) == 8, unsigned long long,
                                  std::conditional_t<sizeof(T) == 4, unsigned, unsigned short>>;

template <class To, class From>
inline To cast(const From& from) {  // CUDA's packed types are not trivially copyable in name
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(static_cast<void*>(&to), static_cast<const void*>(&from), sizeof to);
  return to;
}

// Counts an atomic. What its loop computes is the atomic itself, and would depend on who else wants the word.
struct AtomicCount {
#if defined(SIMT_COUNTING)
  std::uint64_t* operations = current_thread != nullptr ? &self().float_operations : nullptr;
  std::uint64_t before = operations != nullptr ? *operations : 0;
  ~AtomicCount() {
    if (operations != nullptr) *operations = before;
  }
#endif
  AtomicCount() {
    if (counting_enabled) count_atomic();
  }
};

// *p = change(*p); returns the old value.
template <class T, class Update>
inline T update(T* p, Update change, Site site) {
  check(p, sizeof(T), site);
  const AtomicCount count;
  auto* word = reinterpret_cast<bits_t<T>*>(p);
  before(p);
  bits_t<T> old = __atomic_load_n(word, __ATOMIC_RELAXED), desired;
  do {
    desired = cast<bits_t<T>>(change(cast<T>(old)));
  } while (!__atomic_compare_exchange_n(word, &old, desired, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  after(p);
  return cast<T>(old);
}

template <class T>
using unsigned_t = std::make_unsigned_t<T>;

template <class T>
inline T add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<unsigned_t<T>>(a) + static_cast<unsigned_t<T>>(b));  // wraps
  } else {
    return a + b;
  }
}

// CUDA's overloads: long long can be compared and combined, but neither added nor exchanged. The two halves of a packed
// type are added separately.
template <class T>
concept Added =
    OneOf<T, int, unsigned, unsigned long long, float, double, __half, __half2, __nv_bfloat16, __nv_bfloat162>;
template <class T>
concept Subtracted = OneOf<T, int, unsigned>;
template <class T>
concept Combined = OneOf<T, int, unsigned, long long, unsigned long long>;  // min, max, and, or, xor
template <class T>
concept Exchanged = OneOf<T, int, unsigned, unsigned long long, float>;
template <class T>
concept Compared = OneOf<T, int, unsigned, unsigned long long, unsigned short>;

}  // namespace simt::host_atomic

template <simt::host_atomic::Added T>
inline T atomicAdd(T* p, std::type_identity_t<T> value SIMT_AND_SITE) {
  return simt::host_atomic::update(
      p, [=](T old) { return simt::host_atomic::add(old, value); }, site);
}
template <simt::host_atomic::Subtracted T>
inline T atomicSub(T* p, std::type_identity_t<T> value SIMT_AND_SITE) {
  using U = simt::host_atomic::unsigned_t<T>;
  const auto subtract = [=](T old) { return static_cast<T>(static_cast<U>(old) - static_cast<U>(value)); };
  return simt::host_atomic::update(p, subtract, site);
}
template <simt::host_atomic::Combined T>
inline T atomicMin(T* p, std::type_identity_t<T> value SIMT_AND_SITE) {
  return simt::host_atomic::update(
      p, [=](T old) { return value < old ? value : old; }, site);
}
template <simt::host_atomic::Combined T>
inline T atomicMax(T* p, std::type_identity_t<T> value SIMT_AND_SITE) {
  return simt::host_atomic::update(
      p, [=](T old) { return old < value ? value : old; }, site);
}
template <simt::host_atomic::Combined T>
inline T atomicAnd(T* p, std::type_identity_t<T> value SIMT_AND_SITE) {
  return simt::host_atomic::update(
      p, [=](T old) { return static_cast<T>(old & value); }, site);
}
template <simt::host_atomic::Combined T>
inline T atomicOr(T* p, std::type_identity_t<T> value SIMT_AND_SITE) {
  return simt::host_atomic::update(
      p, [=](T old) { return static_cast<T>(old | value); }, site);
}
template <simt::host_atomic::Combined T>
inline T atomicXor(T* p, std::type_identity_t<T> value SIMT_AND_SITE) {
  return simt::host_atomic::update(
      p, [=](T old) { return static_cast<T>(old ^ value); }, site);
}
inline unsigned atomicInc(unsigned* p, unsigned limit SIMT_AND_SITE) {
  return simt::host_atomic::update(
      p, [=](unsigned old) { return old >= limit ? 0u : old + 1; }, site);
}
inline unsigned atomicDec(unsigned* p, unsigned limit SIMT_AND_SITE) {
  return simt::host_atomic::update(
      p, [=](unsigned old) { return old == 0 || old > limit ? limit : old - 1; }, site);
}
template <simt::host_atomic::Exchanged T>
inline T atomicExch(T* p, std::type_identity_t<T> value SIMT_AND_SITE) {
  return simt::host_atomic::update(
      p, [=](T) { return value; }, site);
}
template <simt::host_atomic::Compared T>
inline T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> desired SIMT_AND_SITE) {
  return simt::host_atomic::update(
      p, [=](T old) { return old == expected ? desired : old; }, site);
}

inline void __threadfence_block() { simt::host_atomic::fence(); }
inline void __threadfence() { simt::host_atomic::fence(); }
inline void __threadfence_system() { simt::host_atomic::fence(); }
#endif  // SIMT_HOST

namespace simt {

// Flags and values passed between blocks (decoupled look-back): device scope. T has 4 or 8 bytes.
template <class T>
SIMT_DEV T load_acquire(const T* p) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "load_acquire: 4 or 8 bytes");
  T value;
#if SIMT_HOST
  __atomic_load(p, &value, __ATOMIC_ACQUIRE);
#else
  if constexpr (sizeof(T) == 4) {
    std::uint32_t bits;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(bits) : "l"(p) : "memory");
    memcpy(&value, &bits, 4);
  } else {
    std::uint64_t bits;
    asm volatile("ld.acquire.gpu.u64 %0, [%1];" : "=l"(bits) : "l"(p) : "memory");
    memcpy(&value, &bits, 8);
  }
#endif
  return value;
}
template <class T>
SIMT_DEV void store_release(T* p, std::type_identity_t<T> value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "store_release: 4 or 8 bytes");
#if SIMT_HOST
  __atomic_store(p, &value, __ATOMIC_RELEASE);
#else
  if constexpr (sizeof(T) == 4) {
    std::uint32_t bits;
    memcpy(&bits, &value, 4);
    asm volatile("st.release.gpu.u32 [%0], %1;" ::"l"(p), "r"(bits) : "memory");
  } else {
    std::uint64_t bits;
    memcpy(&bits, &value, 8);
    asm volatile("st.release.gpu.u64 [%0], %1;" ::"l"(p), "l"(bits) : "memory");
  }
#endif
}

}  // namespace simt
