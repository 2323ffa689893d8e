// Shuffles, votes, match, reduce, __syncwarp, lane_id.
#include <climits>

#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"
#include "cuda/simt/selftest/operands.h"

namespace simt::selftest {
namespace {

// A warp's call: who takes part, and what each lane passes. One block of 32 for each; lanes outside the mask do not
// call and leave their output alone.
constexpr unsigned kUntouched = 0xDEADBEEF;

std::vector<unsigned> masks(std::size_t count, unsigned seed) {
  std::vector<unsigned> result{~0u, 1u, 0x80000000u, 0x0000FFFFu, 0xFFFF0000u, 0x55555555u, 0x7FFFFFFFu, 0xFFFFFFFEu};
  for (Random random(seed); result.size() < count;) {
    const auto mask = static_cast<unsigned>(random());
    if (mask != 0) result.push_back(mask);
  }
  return result;
}

// ---- shuffles

enum class Kind { kIndex, kUp, kDown, kXor };

template <Kind kKind, class T>
__global__ void shuffle_kernel(T* out, const T* in, const int* argument, const unsigned* mask, const int* width) {
  const unsigned m = mask[blockIdx.x], i = blockIdx.x * 32 + threadIdx.x;
  if (!(m >> threadIdx.x & 1)) return;
  const T value = in[i];
  const int a = argument[i], w = width[blockIdx.x];
  if constexpr (kKind == Kind::kIndex) out[i] = __shfl_sync(m, value, a, w);
  if constexpr (kKind == Kind::kUp) out[i] = __shfl_up_sync(m, value, static_cast<unsigned>(a), w);
  if constexpr (kKind == Kind::kDown) out[i] = __shfl_down_sync(m, value, static_cast<unsigned>(a), w);
  if constexpr (kKind == Kind::kXor) out[i] = __shfl_xor_sync(m, value, a, w);
}

// The lane that `lane` reads from. CUDA C++ Programming Guide, Warp Shuffle Functions.
int source_lane(Kind kind, int lane, int argument, int width) {
  const int first = lane / width * width, next = first + width;
  switch (kind) {
    case Kind::kIndex:
      return first + ((argument % width) + width) % width;
    case Kind::kUp:
      return lane - argument >= first ? lane - argument : lane;
    case Kind::kDown:
      return lane + argument < next ? lane + argument : lane;
    case Kind::kXor:  // earlier segments can be read, later ones not
      return (lane ^ argument) < next ? lane ^ argument : lane;
  }
  return lane;
}

template <Kind kKind, class T>
void shuffle_test(Check& check) {
  std::vector<unsigned> mask;
  std::vector<int> width, argument;
  Random random(1);
  // Every width and every argument by a whole warp; then parts of a warp whose sources take part, too.
  for (int w = 1; w <= 32; w *= 2) {
    for (int a = 0; a < 32; ++a) {
      mask.push_back(~0u);
      width.push_back(w);
      for (int lane = 0; lane < 32; ++lane) argument.push_back(a);
    }
  }
  for (const unsigned m : masks(256, 2)) {
    mask.push_back(m);
    const int w = 1 << random() % 6;
    width.push_back(w);
    for (int lane = 0; lane < 32; ++lane) {
      int a = 0;
      for (int tries = 0; tries < 64; ++tries) {
        const int candidate =
            kKind == Kind::kIndex ? static_cast<int>(random() % 128) - 64 : static_cast<int>(random() % 32);
        if (m >> source_lane(kKind, lane, candidate, w) & 1) a = candidate;
      }
      // 0 names lane 0 of the segment for an index, the lane itself for the others.
      if (!(m >> source_lane(kKind, lane, a, w) & 1)) a = lane;
      argument.push_back(a);
    }
  }
  const std::size_t n = mask.size() * 32;
  std::vector<T> in(n);
  for (T& x : in) {
    const std::uint64_t bits = random();
    std::memcpy(static_cast<void*>(&x), &bits, sizeof x);
  }
  T untouched;
  std::memset(static_cast<void*>(&untouched), 0x5A, sizeof untouched);
  const Array<T> out(std::vector<T>(n, untouched));
  run(shuffle_kernel<kKind, T>, dim3(static_cast<unsigned>(mask.size())), dim3(32), out, Array<T>(in),
      Array<int>(argument), Array<unsigned>(mask), Array<int>(width));
  const std::vector<T> got = out.host();
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;
  for (std::size_t i = 0; i < n; ++i) {
    const int lane = static_cast<int>(i % 32), a = argument[i], w = width[i / 32];
    const unsigned m = mask[i / 32];
    const T wanted =
        m >> lane & 1 ? in[i / 32 * 32 + static_cast<std::size_t>(source_lane(kKind, lane, a, w))] : untouched;
    check.equal(bits_as<Bits>(got[i]), bits_as<Bits>(wanted),
                [&] { return operands("lane", lane, "argument", a, "width", w, "mask", m); });
  }
}
template <Kind kKind>
void shuffle_tests(Check& check) {
  shuffle_test<kKind, int>(check);
  shuffle_test<kKind, unsigned>(check);
  shuffle_test<kKind, float>(check);
  shuffle_test<kKind, long>(check);
  shuffle_test<kKind, unsigned long long>(check);
  shuffle_test<kKind, double>(check);
  shuffle_test<kKind, __half>(check);
  shuffle_test<kKind, __half2>(check);
  shuffle_test<kKind, __nv_bfloat16>(check);
  shuffle_test<kKind, __nv_bfloat162>(check);
}

// ---- operations whose result depends on the mask and on all lanes' values

struct Any {
  static SIMT_DEV unsigned apply(unsigned mask, unsigned x) {
    return static_cast<unsigned>(__any_sync(mask, static_cast<int>(x)) != 0);
  }
  static constexpr unsigned kStart = 0;
  static unsigned fold(unsigned a, unsigned b) { return a || b; }
};
struct All {
  static SIMT_DEV unsigned apply(unsigned mask, unsigned x) {
    return static_cast<unsigned>(__all_sync(mask, static_cast<int>(x)) != 0);
  }
  static constexpr unsigned kStart = 1;
  static unsigned fold(unsigned a, unsigned b) { return a && b; }
};
#define SIMT_REDUCE(Name, T, function, start, model)                          \
  struct Name {                                                               \
    static constexpr T kStart = start;                                        \
    static SIMT_DEV T apply(unsigned mask, T x) { return function(mask, x); } \
    static T fold(T a, T b) { return model; }                                 \
  };
SIMT_REDUCE(AddSigned, int, __reduce_add_sync, 0, static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b)))
SIMT_REDUCE(AddUnsigned, unsigned, __reduce_add_sync, 0, a + b)
SIMT_REDUCE(MinSigned, int, __reduce_min_sync, INT_MAX, a < b ? a : b)
SIMT_REDUCE(MinUnsigned, unsigned, __reduce_min_sync, ~0u, a < b ? a : b)
SIMT_REDUCE(MaxSigned, int, __reduce_max_sync, INT_MIN, a > b ? a : b)
SIMT_REDUCE(MaxUnsigned, unsigned, __reduce_max_sync, 0, a > b ? a : b)
SIMT_REDUCE(And, unsigned, __reduce_and_sync, ~0u, a& b)
SIMT_REDUCE(Or, unsigned, __reduce_or_sync, 0, a | b)
SIMT_REDUCE(Xor, unsigned, __reduce_xor_sync, 0, a ^ b)
#undef SIMT_REDUCE

template <class Function, class T>
__global__ void collective_kernel(T* out, const T* in, const unsigned* mask) {
  const unsigned m = mask[blockIdx.x], i = blockIdx.x * 32 + threadIdx.x;
  if (m >> threadIdx.x & 1) out[i] = Function::apply(m, in[i]);
}

constexpr std::size_t kWarps = 512;

// Values whose warps are, in turn: any bits, all zero but one lane, all equal.
template <class T>
std::vector<T> warp_values(unsigned seed) {
  std::vector<T> x = any_integers<T>(kWarps * 32, seed);
  for (std::size_t warp = 1; warp < kWarps; ++warp) {
    for (std::size_t lane = 0; lane < 32; ++lane) {
      T& value = x[warp * 32 + lane];
      if (warp % 3 == 1) value = lane == warp / 3 % 32 ? 1 : 0;
      if (warp % 3 == 2) value = static_cast<T>(warp % 5);
    }
  }
  return x;
}

template <class Function, class T>
void fold_test(Check& check) {
  const std::vector<unsigned> mask = masks(kWarps, 3);
  const std::vector<T> in = warp_values<T>(4);
  const Array<T> out(std::vector<T>(in.size(), static_cast<T>(kUntouched)));
  run(collective_kernel<Function, T>, kWarps, 32, out, Array<T>(in), Array<unsigned>(mask));
  const std::vector<T> got = out.host();
  for (std::size_t warp = 0; warp < kWarps; ++warp) {
    T folded = Function::kStart;
    for (std::size_t lane = 0; lane < 32; ++lane) {
      if (mask[warp] >> lane & 1) folded = Function::fold(folded, in[warp * 32 + lane]);
    }
    for (std::size_t lane = 0; lane < 32; ++lane) {
      const bool in_mask = mask[warp] >> lane & 1;
      check.equal(got[warp * 32 + lane], in_mask ? folded : static_cast<T>(kUntouched),
                  [&] { return operands("warp", warp, "lane", lane, "mask", mask[warp]); });
    }
  }
}
template <class Signed, class Unsigned>
void both_tests(Check& check) {
  fold_test<Signed, int>(check);
  fold_test<Unsigned, unsigned>(check);
}

// For each lane the set of lanes that `same` says: ballot and match.
struct Ballot {
  static SIMT_DEV unsigned apply(unsigned mask, unsigned x) { return __ballot_sync(mask, static_cast<int>(x)); }
  static bool counts(unsigned, unsigned other) { return other != 0; }
};
// Matched are bits: -0 is not 0, and a NaN equals itself (PTX ISA, match.sync).
template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}
template <class T>
struct MatchAny {
  static SIMT_DEV unsigned apply(unsigned mask, T x) { return __match_any_sync(mask, x); }
  static bool counts(T mine, T other) { return same_bits(mine, other); }
};
template <class Function, class T>
__global__ void lanes_kernel(unsigned* out, const T* in, const unsigned* mask) {
  const unsigned m = mask[blockIdx.x], i = blockIdx.x * 32 + threadIdx.x;
  if (m >> threadIdx.x & 1) out[i] = Function::apply(m, in[i]);
}
// By warp in turn: any bits; a few values, so that some match; one value, in every second warp but for one lane.
template <class T>
std::vector<T> few_values(unsigned seed) {
  const T zero = 0, one = 1;
  const std::vector<T> few = {zero, -zero, one, zero / (std::is_integral_v<T> ? one : zero),
                              static_cast<T>(0x100000001)};
  std::vector<T> x(kWarps * 32);
  Random random(seed);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t warp = i / 32, lane = i % 32;
    const std::uint64_t bits = random();
    std::memcpy(&x[i], &bits, sizeof(T));
    if (warp % 3 == 1) x[i] = few[bits % few.size()];
    if (warp % 3 == 2 && (warp % 2 == 0 || lane != warp / 6 % 32)) x[i] = few[warp / 6 % few.size()];
  }
  return x;
}
template <class Function, class T>
void lanes_test(Check& check) {
  const std::vector<unsigned> mask = masks(kWarps, 5);
  const std::vector<T> in = few_values<T>(6);
  const Array<unsigned> out(std::vector<unsigned>(in.size(), kUntouched));
  run(lanes_kernel<Function, T>, kWarps, 32, out, Array<T>(in), Array<unsigned>(mask));
  const std::vector<unsigned> got = out.host();
  for (std::size_t i = 0; i < in.size(); ++i) {
    unsigned wanted = 0;
    const unsigned m = mask[i / 32];
    for (std::size_t lane = 0; lane < 32; ++lane) {
      if ((m >> lane & 1) && Function::counts(in[i], in[i / 32 * 32 + lane])) wanted |= 1u << lane;
    }
    check.equal(got[i], m >> i % 32 & 1 ? wanted : kUntouched,
                [&] { return operands("lane", i % 32, "value", in[i], "mask", m); });
  }
}
void match_any_test(Check& check) {
  lanes_test<MatchAny<int>, int>(check);
  lanes_test<MatchAny<unsigned>, unsigned>(check);
  lanes_test<MatchAny<long>, long>(check);
  lanes_test<MatchAny<unsigned long long>, unsigned long long>(check);
  lanes_test<MatchAny<float>, float>(check);
  lanes_test<MatchAny<double>, double>(check);
}

template <class T>
__global__ void match_all_kernel(unsigned* out, int* predicate, const T* in, const unsigned* mask) {
  const unsigned m = mask[blockIdx.x], i = blockIdx.x * 32 + threadIdx.x;
  if (!(m >> threadIdx.x & 1)) return;
  int all = 7;
  out[i] = __match_all_sync(m, in[i], &all);
  predicate[i] = all != 0;
}
template <class T>
void match_all_of(Check& check) {
  const std::vector<unsigned> mask = masks(kWarps, 7);
  const std::vector<T> in = few_values<T>(8);
  const Array<unsigned> out(in.size());
  const Array<int> predicate(in.size());
  run(match_all_kernel<T>, kWarps, 32, out, predicate, Array<T>(in), Array<unsigned>(mask));
  const std::vector<unsigned> got = out.host();
  const std::vector<int> got_predicate = predicate.host();
  for (std::size_t i = 0; i < in.size(); ++i) {
    const unsigned m = mask[i / 32];
    if (!(m >> i % 32 & 1)) continue;
    bool all = true;
    for (std::size_t lane = 0; lane < 32; ++lane) all &= !(m >> lane & 1) || same_bits(in[i], in[i / 32 * 32 + lane]);
    const auto describe = [&] { return operands("lane", i % 32, "value", in[i], "mask", m); };
    check.equal(got[i], all ? m : 0u, describe);
    check.equal(got_predicate[i], int{all}, describe);
  }
}
void match_all_test(Check& check) {
  match_all_of<unsigned>(check);
  match_all_of<unsigned long long>(check);
  match_all_of<float>(check);
  match_all_of<double>(check);
}

// ---- memory between lanes

// Each lane of the mask writes, then reads what the next one of the mask (cyclically) wrote, twice over.
__global__ void syncwarp_kernel(unsigned* out, const unsigned* mask) {
  SIMT_SHARED(unsigned[32], values);
  const unsigned m = mask[blockIdx.x], lane = threadIdx.x, i = blockIdx.x * 32 + lane;
  if (!(m >> lane & 1)) return;
  const unsigned above = lane == 31 ? 0 : m >> (lane + 1) << (lane + 1);
  const int next = __ffs(static_cast<int>(above != 0 ? above : m)) - 1;
  unsigned x = i;
  for (int round = 0; round < 2; ++round) {
    values[lane] = x;
    __syncwarp(m);
    x = values[next] + 1000;
    __syncwarp(m);
  }
  out[i] = x;
}
void syncwarp_test(Check& check) {
  const std::vector<unsigned> mask = masks(kWarps, 9);
  const Array<unsigned> out(kWarps * 32);
  run(syncwarp_kernel, kWarps, 32, out, Array<unsigned>(mask));
  const std::vector<unsigned> got = out.host();
  const auto next = [](unsigned m, unsigned lane) {
    do lane = (lane + 1) % 32;
    while (!(m >> lane & 1));
    return lane;
  };
  for (unsigned i = 0; i < kWarps * 32; ++i) {
    const unsigned m = mask[i / 32];
    if (!(m >> i % 32 & 1)) continue;
    check.equal(got[i], i / 32 * 32 + next(m, next(m, i % 32)) + 2000,
                [&] { return operands("lane", i % 32, "mask", m); });
  }
}

__global__ void lane_id_kernel(unsigned* out) {
  out[threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)] = lane_id();
}
void lane_id_test(Check& check) {
  for (const dim3 block : {dim3(32), dim3(100), dim3(5, 7, 3), dim3(1, 64), dim3(16, 4, 2)}) {
    const unsigned n = block.x * block.y * block.z;
    const Array<unsigned> out(n);
    run(lane_id_kernel, 1, block, out);
    const std::vector<unsigned> got = out.host();
    for (unsigned i = 0; i < n; ++i) check.equal(got[i], i % 32, [&] { return operands("thread", i); });
  }
}

}  // namespace

std::vector<Test> warp_tests() {
  return {{"warp.__shfl_sync", shuffle_tests<Kind::kIndex>, "shfl.sync.idx.b32"},
          {"warp.__shfl_up_sync", shuffle_tests<Kind::kUp>, "shfl.sync.up.b32"},
          {"warp.__shfl_down_sync", shuffle_tests<Kind::kDown>, "shfl.sync.down.b32"},
          {"warp.__shfl_xor_sync", shuffle_tests<Kind::kXor>, "shfl.sync.bfly.b32"},
          {"warp.__any_sync", fold_test<Any, unsigned>, "vote.sync.any.pred"},
          {"warp.__all_sync", fold_test<All, unsigned>, "vote.sync.all.pred"},
          {"warp.__ballot_sync", lanes_test<Ballot, unsigned>, "vote.sync.ballot.b32"},
          {"warp.__match_any_sync", match_any_test, "match.any.sync.b32, .b64"},
          {"warp.__match_all_sync", match_all_test, "match.all.sync.b32, .b64"},
          {"warp.__reduce_add_sync", both_tests<AddSigned, AddUnsigned>, "redux.sync.add.s32, .u32"},
          {"warp.__reduce_min_sync", both_tests<MinSigned, MinUnsigned>, "redux.sync.min.s32, .u32"},
          {"warp.__reduce_max_sync", both_tests<MaxSigned, MaxUnsigned>, "redux.sync.max.s32, .u32"},
          {"warp.__reduce_and_sync", fold_test<And, unsigned>, "redux.sync.and.b32"},
          {"warp.__reduce_or_sync", fold_test<Or, unsigned>, "redux.sync.or.b32"},
          {"warp.__reduce_xor_sync", fold_test<Xor, unsigned>, "redux.sync.xor.b32"},
          {"warp.__syncwarp", syncwarp_test, "bar.warp.sync"},
          {"warp.lane_id", lane_id_test, "mov.u32 %laneid"}};
}

}  // namespace simt::selftest
