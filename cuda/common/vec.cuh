// N neighbouring elements at a time, widened to float: one or more 16-byte accesses where they fill 16 bytes.
#pragma once

#include "cuda/simt/simt.cuh"

namespace assay::gpu {

SIMT_DEV float to_float(float x) { return x; }
SIMT_DEV float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

// One rounding, to nearest even.
template <class T>
SIMT_DEV T from_float(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    return __float2bfloat16_rn(x);
  }
}

// N is 1, or fills a multiple of 16 bytes.
template <class T, int N>
struct alignas(N == 1 ? alignof(T) : 16) Pack {
  static_assert(N == 1 || N * sizeof(T) % 16 == 0);
  T values[N];
};

// `p` aligned as Pack<T, N> is, and not written by this launch: the read-only path lets loads pass earlier stores.
template <int N, class T>
SIMT_DEV void load(const T* p, float (&out)[N]) {
  Pack<T, N> pack;
  if constexpr (N == 1) {
    pack.values[0] = __ldg(p);
  } else {
    SIMT_UNROLL
    for (int i = 0; i < static_cast<int>(sizeof(pack) / sizeof(uint4)); ++i) {
      reinterpret_cast<uint4*>(&pack)[i] = __ldg(reinterpret_cast<const uint4*>(p) + i);
    }
  }
  SIMT_UNROLL
  for (int i = 0; i < N; ++i) out[i] = to_float(pack.values[i]);
}

template <int N, class T>
SIMT_DEV void store(T* p, const float (&in)[N]) {
  Pack<T, N> pack;
  SIMT_UNROLL
  for (int i = 0; i < N; ++i) pack.values[i] = from_float<T>(in[i]);
  *reinterpret_cast<Pack<T, N>*>(p) = pack;
}

// run<n>() for the n = 1, 2, 4 or 8 vectors of 16 bytes that a lane holds of S; 8 of float alone: 256 bfloat16 need 4.
template <class S, class Run>
void with_vectors(int vectors, const Run& run) {
  switch (vectors) {
    case 1:
      return run.template operator()<1>();
    case 2:
      return run.template operator()<2>();
    case 4:
      return run.template operator()<4>();
    default:
      if constexpr (sizeof(S) == 4) run.template operator()<8>();
  }
}

}  // namespace assay::gpu
