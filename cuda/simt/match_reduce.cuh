// Warp-wide match and reduce (sm_70, sm_80). On a GPU these are CUDA's own.
#pragma once

#include "cuda/simt/platform.cuh"

#if SIMT_HOST
namespace simt {

template <class T>
struct MatchLane {
  T value;
  unsigned same;  // lanes with this lane's bits: -0 is not 0, a NaN matches itself
};
template <class T>
SIMT_NO_TSAN bool same_bits(T a, T b) {
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
  return __builtin_bit_cast(Bits, a) == __builtin_bit_cast(Bits, b);
}
template <class T>
SIMT_NO_TSAN void run_match(void* const* lanes, unsigned mask) {
  for (int i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    auto* lane = static_cast<MatchLane<T>*>(lanes[i]);
    lane->same = 0;
    for (int j = 0; j < 32; ++j) {
      if ((mask >> j & 1) && same_bits(static_cast<MatchLane<T>*>(lanes[j])->value, lane->value)) lane->same |= 1u << j;
    }
  }
}
template <class T>
inline constexpr Collective kMatchAny{"__match_any_sync", run_match<T>, false, false};
template <class T>
inline constexpr Collective kMatchAll{"__match_all_sync", run_match<T>, false, false};

template <class T>
inline unsigned match(const Collective& operation, unsigned mask, T value, Site site) {
  MatchLane<T> lane{value, 0};
  collective(operation, mask, &lane, site);
  return lane.same;
}

enum class WarpReduction { kAdd, kMin, kMax, kAnd, kOr, kXor };
template <WarpReduction kOperation, class T>
T combine(T a, T b) {
  switch (kOperation) {
    case WarpReduction::kAdd:
      return static_cast<T>(static_cast<unsigned>(a) + static_cast<unsigned>(b));  // wraps
    case WarpReduction::kMin:
      return b < a ? b : a;
    case WarpReduction::kMax:
      return a < b ? b : a;
    case WarpReduction::kAnd:
      return a & b;
    case WarpReduction::kOr:
      return a | b;
    case WarpReduction::kXor:
      return a ^ b;
  }
}
template <class T>
struct ReduceLane {
  T value, result;
};
template <WarpReduction kOperation, class T>
SIMT_NO_TSAN void run_reduce(void* const* lanes, unsigned mask) {
  bool first = true;
  T result{};
  for (int i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    const T value = static_cast<ReduceLane<T>*>(lanes[i])->value;
    result = first ? value : combine<kOperation>(result, value);
    first = false;
  }
  for (int i = 0; i < 32; ++i) {
    if (mask >> i & 1) static_cast<ReduceLane<T>*>(lanes[i])->result = result;
  }
}
template <WarpReduction kOperation, class T>
inline constexpr Collective kReduce{"__reduce_sync", run_reduce<kOperation, T>, false, false};
template <WarpReduction kOperation, class T>
inline T reduce(unsigned mask, T value, Site site) {
  ReduceLane<T> lane{value, value};
  collective(kReduce<kOperation, T>, mask, &lane, site);
  return lane.result;
}
template <class T>
concept Matched = OneOf<T, int, unsigned, long, unsigned long, long long, unsigned long long, float, double>;
template <class T>
concept Reduced = OneOf<T, int, unsigned>;

}  // namespace simt

template <simt::Matched T>
inline unsigned __match_any_sync(unsigned mask, T value SIMT_AND_SITE) {
  return simt::match(simt::kMatchAny<T>, mask, value, site);
}
template <simt::Matched T>
inline unsigned __match_all_sync(unsigned mask, T value, int* predicate SIMT_AND_SITE) {
  const unsigned same = simt::match(simt::kMatchAll<T>, mask, value, site);
  *predicate = same == mask;
  return *predicate ? mask : 0;
}
template <simt::Reduced T>
inline T __reduce_add_sync(unsigned mask, T value SIMT_AND_SITE) {
  return simt::reduce<simt::WarpReduction::kAdd>(mask, value, site);
}
template <simt::Reduced T>
inline T __reduce_min_sync(unsigned mask, T value SIMT_AND_SITE) {
  return simt::reduce<simt::WarpReduction::kMin>(mask, value, site);
}
template <simt::Reduced T>
inline T __reduce_max_sync(unsigned mask, T value SIMT_AND_SITE) {
  return simt::reduce<simt::WarpReduction::kMax>(mask, value, site);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value SIMT_AND_SITE) {
  return simt::reduce<simt::WarpReduction::kAnd>(mask, value, site);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value SIMT_AND_SITE) {
  return simt::reduce<simt::WarpReduction::kOr>(mask, value, site);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value SIMT_AND_SITE) {
  return simt::reduce<simt::WarpReduction::kXor>(mask, value, site);
}
#endif  // SIMT_HOST
