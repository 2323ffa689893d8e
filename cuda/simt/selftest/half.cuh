// Half and bfloat16: their formats, and device arrays of their codes.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"
#include "cuda/simt/selftest/float_format.h"
#include "cuda/simt/selftest/operands.h"

namespace simt::selftest {

using Code = std::uint16_t;

template <class H>
struct HalfType;
template <>
struct HalfType<__half> {
  using Pair = __half2;
  static constexpr FloatFormat kFormat = kHalf;
};
template <>
struct HalfType<__nv_bfloat16> {
  using Pair = __nv_bfloat162;
  static constexpr FloatFormat kFormat = kBf16;
};

template <class H>
double value_of(Code code) {
  return decode(code, HalfType<H>::kFormat);
}
template <class H>
__host__ __device__ inline typename HalfType<H>::Pair pair_of(H x, H y) {
  typename HalfType<H>::Pair pair;
  pair.x = x;
  pair.y = y;
  return pair;
}

// Zeros, the ends of the denormal and the normal numbers, infinities, NaN, 1 and its neighbours.
inline std::vector<Code> edge_codes(FloatFormat f) {
  const auto one = static_cast<Code>(bias(f) << f.fraction_bits), infinity = static_cast<Code>(infinity_bits(f)),
             smallest_normal = static_cast<Code>(1 << f.fraction_bits);
  std::vector<Code> codes;
  for (const int code :
       {0, 1, smallest_normal - 1, +smallest_normal, one - 1, +one, one + 1, infinity - 1, +infinity, infinity + 1}) {
    codes.push_back(static_cast<Code>(code));
    codes.push_back(static_cast<Code>(code | 0x8000));
  }
  return codes;
}

}  // namespace simt::selftest
