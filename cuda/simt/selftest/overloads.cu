// Which types a function takes: for both compilers the same, so that a kernel that one compiles, the other compiles.
#include "cuda/simt/simt.cuh"

namespace simt::selftest {
namespace {

#define SIMT_ACCEPTS(Name, ...)                             \
  struct Name {                                             \
    template <class T>                                      \
    static constexpr bool with = requires(T * p, T value) { \
      __VA_ARGS__;                                          \
    };                                                      \
  };
SIMT_ACCEPTS(Add, atomicAdd(p, value))
SIMT_ACCEPTS(Sub, atomicSub(p, value))
SIMT_ACCEPTS(Min, atomicMin(p, value))
SIMT_ACCEPTS(Max, atomicMax(p, value))
SIMT_ACCEPTS(And, atomicAnd(p, value))
SIMT_ACCEPTS(Or, atomicOr(p, value))
SIMT_ACCEPTS(Xor, atomicXor(p, value))
SIMT_ACCEPTS(Inc, atomicInc(p, value))
SIMT_ACCEPTS(Dec, atomicDec(p, value))
SIMT_ACCEPTS(Exch, atomicExch(p, value))
SIMT_ACCEPTS(Cas, atomicCAS(p, value, value))
SIMT_ACCEPTS(Loads, __ldg(p), __ldca(p), __ldcg(p), __ldcs(p), __ldlu(p), __ldcv(p))
SIMT_ACCEPTS(Stores, __stwb(p, value), __stcg(p, value), __stcs(p, value), __stwt(p, value))
SIMT_ACCEPTS(Shuffles, __shfl_sync(~0u, value, 0), __shfl_up_sync(~0u, value, 1), __shfl_down_sync(~0u, value, 1),
             __shfl_xor_sync(~0u, value, 1))
SIMT_ACCEPTS(MatchAny, __match_any_sync(~0u, value))
SIMT_ACCEPTS(MatchAll, __match_all_sync(~0u, value, nullptr))
SIMT_ACCEPTS(Reductions, __reduce_add_sync(~0u, value), __reduce_min_sync(~0u, value), __reduce_max_sync(~0u, value))
#undef SIMT_ACCEPTS

template <class... T>
struct Types {};
template <class Function, class... T>
constexpr bool all(Types<T...>) {
  return (Function::template with<T> && ...);
}
template <class Function, class... T>
constexpr bool none(Types<T...>) {
  return !(Function::template with<T> || ...);
}

using UnsignedLongLong = unsigned long long;
struct Pair {
  short a, b;
};
using Halves = Types<__half, __half2, __nv_bfloat16, __nv_bfloat162>;
using Never = Types<signed char, short, long, unsigned long, Pair>;  // by no atomic

static_assert(all<Add>(Types<int, unsigned, UnsignedLongLong, float, double>{}) && all<Add>(Halves{}));
static_assert(none<Add>(Types<long long, unsigned short>{}) && none<Add>(Never{}));
static_assert(all<Sub>(Types<int, unsigned>{}));
static_assert(none<Sub>(Types<long long, UnsignedLongLong, float>{}) && none<Sub>(Never{}));

template <class Function>
constexpr bool combines() {
  return all<Function>(Types<int, unsigned, long long, UnsignedLongLong>{}) && none<Function>(Types<float, double>{}) &&
         none<Function>(Never{});
}
static_assert(combines<Min>() && combines<Max>() && combines<And>() && combines<Or>() && combines<Xor>());

static_assert(all<Inc>(Types<unsigned>{}) && none<Inc>(Types<int, UnsignedLongLong>{}));
static_assert(all<Dec>(Types<unsigned>{}) && none<Dec>(Types<int, UnsignedLongLong>{}));
static_assert(all<Exch>(Types<int, unsigned, UnsignedLongLong, float>{}));
static_assert(none<Exch>(Types<long long, double>{}) && none<Exch>(Halves{}) && none<Exch>(Never{}));
static_assert(all<Cas>(Types<int, unsigned, UnsignedLongLong, unsigned short>{}));
static_assert(none<Cas>(Types<long long, float, double>{}) && none<Cas>(Halves{}) && none<Cas>(Never{}));

using Integers = Types<int, unsigned, long, unsigned long, long long, UnsignedLongLong>;
static_assert(all<Loads>(Integers{}) && all<Loads>(Halves{}) && none<Loads>(Types<Pair, bool>{}));
static_assert(all<Loads>(Types<char, signed char, unsigned char, short, unsigned short, float, double>{}));
static_assert(all<Loads>(Types<char2, char4, uchar2, uchar4, short2, short4, ushort2, ushort4, int2, int4, uint2, uint4,
                               longlong2, ulonglong2, float2, float4, double2>{}));
static_assert(all<Stores>(Integers{}) && all<Stores>(Halves{}) && none<Stores>(Types<Pair, bool>{}));
static_assert(all<Stores>(Types<char, signed char, unsigned char, short, unsigned short, float, double>{}));
static_assert(all<Stores>(Types<char2, char4, uchar2, uchar4, short2, short4, ushort2, ushort4, int2, int4, uint2,
                                uint4, longlong2, ulonglong2, float2, float4, double2>{}));

// nvcc also takes what converts to one of these, such as short, and returns that type.
static_assert(all<Shuffles>(Integers{}) && all<Shuffles>(Types<float, double>{}) && all<Shuffles>(Halves{}));
static_assert(none<Shuffles>(Types<Pair, float2>{}));
static_assert(all<MatchAny>(Integers{}) && all<MatchAny>(Types<float, double>{}) && none<MatchAny>(Types<Pair>{}));
static_assert(all<MatchAll>(Integers{}) && all<MatchAll>(Types<float, double>{}) && none<MatchAll>(Types<Pair>{}));
static_assert(all<Reductions>(Types<int, unsigned>{}) && none<Reductions>(Types<Pair, long long, double>{}));

}  // namespace
}  // namespace simt::selftest
