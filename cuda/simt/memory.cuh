// Global memory access: vectors, and CUDA's loads and stores with a cache hint.
#pragma once

#include "cuda/simt/platform.cuh"

#if SIMT_HOST
namespace simt {
template <class T>
concept Cached = OneOf<T, char, signed char, unsigned char, short, unsigned short, int, unsigned, long, unsigned long,
                       long long, unsigned long long, char2, char4, uchar2, uchar4, short2, short4, ushort2, ushort4,
                       int2, int4, uint2, uint4, longlong2, ulonglong2, float, float2, float4, double, double2, __half,
                       __half2, __nv_bfloat16, __nv_bfloat162>;
}  // namespace simt

template <simt::Cached T>
inline T __ldg(const T* p) {
  return *p;
}  // read-only path
template <simt::Cached T>
inline T __ldca(const T* p) {
  return *p;
}  // L1 and L2
template <simt::Cached T>
inline T __ldcg(const T* p) {
  return *p;
}  // L2 alone
template <simt::Cached T>
inline T __ldcs(const T* p) {
  return *p;
}  // streaming
template <simt::Cached T>
inline T __ldlu(const T* p) {
  return *p;
}  // last use
template <simt::Cached T>
inline T __ldcv(const T* p) {
  return *p;
}  // do not cache
template <simt::Cached T>
inline void __stwb(T* p, std::type_identity_t<T> value) {
  *p = value;
}
template <simt::Cached T>
inline void __stcg(T* p, std::type_identity_t<T> value) {
  *p = value;
}
template <simt::Cached T>
inline void __stcs(T* p, std::type_identity_t<T> value) {
  *p = value;
}
template <simt::Cached T>
inline void __stwt(T* p, std::type_identity_t<T> value) {
  *p = value;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline unsigned __brev(unsigned x) {
  x = __builtin_bswap32(x);
  x = (x & 0x0F0F0F0Fu) << 4 | (x >> 4 & 0x0F0F0F0Fu);
  x = (x & 0x33333333u) << 2 | (x >> 2 & 0x33333333u);
  return (x & 0x55555555u) << 1 | (x >> 1 & 0x55555555u);
}
#endif

namespace simt {

// N values moved by one memory instruction of sizeof(T) * N bytes (4, 8 or 16).
template <class T, int N>
struct alignas(sizeof(T) * N) Vec {
  static_assert(sizeof(T) * N == 4 || sizeof(T) * N == 8 || sizeof(T) * N == 16, "4, 8 or 16 bytes");
  T v[N];
  SIMT_DEV T& operator[](int i) { return v[i]; }
  SIMT_DEV const T& operator[](int i) const { return v[i]; }
};

#if SIMT_HOST
template <class V>
inline void check_aligned(const void* p, Site site) {
  if (reinterpret_cast<std::uintptr_t>(p) % sizeof(V) != 0) {
    fail("vector access: address ends in " + std::to_string(reinterpret_cast<std::uintptr_t>(p) % 16) + ", not on a " +
             std::to_string(sizeof(V)) + "-byte boundary",
         site);
  }
}
#endif

// p must be aligned to the whole vector.  Vec<float, 4> v = load_vec<4>(x + i);  store_vec(y + i, v);
template <int N, class T>
SIMT_DEV Vec<T, N> load_vec(const T* p SIMT_AND_SITE) {
#if SIMT_HOST
  check_aligned<Vec<T, N>>(p, site);
#endif
  return *reinterpret_cast<const Vec<T, N>*>(p);
}
template <int N, class T>
SIMT_DEV void store_vec(T* p, const Vec<T, N>& value SIMT_AND_SITE) {
#if SIMT_HOST
  check_aligned<Vec<T, N>>(p, site);
#endif
  *reinterpret_cast<Vec<T, N>*>(p) = value;
}

}  // namespace simt
