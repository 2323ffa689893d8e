// Loads and stores with cache hints, vectors, bit counts.
#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"
#include "cuda/simt/selftest/operands.h"

namespace simt::selftest {
namespace {

// ---- loads and stores move bits: of 4, 8 and 16 bytes

#define SIMT_ACCESS(Name, statement)                  \
  struct Name {                                       \
    template <class T>                                \
    static SIMT_DEV void move(T* to, const T* from) { \
      statement;                                      \
    }                                                 \
  };
SIMT_ACCESS(Ldg, *to = __ldg(from))
SIMT_ACCESS(Ldca, *to = __ldca(from))
SIMT_ACCESS(Ldcg, *to = __ldcg(from))
SIMT_ACCESS(Ldcs, *to = __ldcs(from))
SIMT_ACCESS(Ldlu, *to = __ldlu(from))
SIMT_ACCESS(Ldcv, *to = __ldcv(from))
SIMT_ACCESS(Stwb, __stwb(to, *from))
SIMT_ACCESS(Stcg, __stcg(to, *from))
SIMT_ACCESS(Stcs, __stcs(to, *from))
SIMT_ACCESS(Stwt, __stwt(to, *from))
#undef SIMT_ACCESS

template <class Access, class T>
__global__ void move_kernel(T* out, const T* in, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) Access::move(out + n - 1 - i, in + i);
}
constexpr std::size_t kElements = 1000;

template <class Access, class T>
void move_of(Check& check) {
  constexpr std::size_t kWords = sizeof(T) / 4;
  const std::vector<unsigned> words = any_integers<unsigned>(kElements * kWords, 1);
  std::vector<T> in(kElements);
  std::memcpy(static_cast<void*>(in.data()), words.data(), words.size() * 4);
  const Array<T> out(kElements);
  run(move_kernel<Access, T>, 8, 128, out, Array<T>(in), static_cast<int>(kElements));
  const std::vector<T> got = out.host();
  for (std::size_t i = 0; i < kElements; ++i) {
    unsigned bits[kWords];
    std::memcpy(bits, &got[kElements - 1 - i], sizeof bits);
    for (std::size_t w = 0; w < kWords; ++w) {
      check.equal(bits[w], words[i * kWords + w], [&] { return operands("element", i, "word", w, "of", kWords); });
    }
  }
}
template <class Access>
void move_test(Check& check) {
  move_of<Access, int>(check);
  move_of<Access, float>(check);
  move_of<Access, __nv_bfloat162>(check);
  move_of<Access, double>(check);
  move_of<Access, unsigned long long>(check);
  move_of<Access, float2>(check);
  move_of<Access, float4>(check);
  move_of<Access, uint4>(check);
}

template <class T, int N>
__global__ void vec_kernel(T* out, const T* in, int vectors) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= vectors) return;
  const Vec<T, N> v = load_vec<N>(in + N * i);
  Vec<T, N> reversed;
  SIMT_UNROLL
  for (int e = 0; e < N; ++e) reversed[e] = v[N - 1 - e];
  store_vec<N>(out + N * (vectors - 1 - i), reversed);
}
template <class T, int N>
void vec_of(Check& check) {
  const std::vector<T> in = any_integers<T>(kElements * N, 2);
  const Array<T> out(in.size());
  run(vec_kernel<T, N>, 8, 128, out, Array<T>(in), static_cast<int>(kElements));
  const std::vector<T> got = out.host();
  for (std::size_t i = 0; i < got.size(); ++i) {
    check.equal(got[i], in[in.size() - 1 - i], [&] { return operands("element", i, "N", N); });
  }
}
void vec_test(Check& check) {
  vec_of<unsigned, 1>(check);
  vec_of<unsigned, 2>(check);
  vec_of<unsigned, 4>(check);
  vec_of<std::uint16_t, 2>(check);
  vec_of<std::uint16_t, 4>(check);
  vec_of<std::uint16_t, 8>(check);
  vec_of<unsigned char, 4>(check);
  vec_of<unsigned char, 16>(check);
  vec_of<unsigned long long, 1>(check);
  vec_of<unsigned long long, 2>(check);
}

// ---- bits

template <class T, class Model>
void bits_test_of(Check& check, const std::vector<int>& got, const std::vector<T>& in, Model model) {
  for (std::size_t i = 0; i < in.size(); ++i) {
    check.equal(got[i], static_cast<int>(model(in[i])), [&] { return operands("x", in[i]); });
  }
}
#define SIMT_BITS(Name, T, expression)                                      \
  struct Name {                                                             \
    static SIMT_DEV int apply(T x) { return static_cast<int>(expression); } \
  };
SIMT_BITS(Popc, unsigned, __popc(x))
SIMT_BITS(Popcll, unsigned long long, __popcll(x))
SIMT_BITS(Ffs, int, __ffs(x))
SIMT_BITS(Clz, int, __clz(x))
SIMT_BITS(Brev, unsigned, __brev(x))
#undef SIMT_BITS

// Any bits, and each single bit.
template <class T>
std::vector<T> bit_patterns() {
  std::vector<T> x = any_integers<T>(1000, 3);
  for (std::size_t bit = 0; bit < 8 * sizeof(T); ++bit) x.push_back(static_cast<T>(1ull << bit));
  return x;
}
template <class Function, class T, class Model>
void bits_of(Check& check, Model model) {
  const std::vector<T> x = bit_patterns<T>();
  bits_test_of(check, map<Function, int>(x), x, model);
}
template <class T>
int count_bits(T x) {
  int count = 0;
  for (std::size_t bit = 0; bit < 8 * sizeof(T); ++bit) count += x >> bit & 1;
  return count;
}
void popc_test(Check& check) { bits_of<Popc, unsigned>(check, count_bits<unsigned>); }
void popcll_test(Check& check) { bits_of<Popcll, unsigned long long>(check, count_bits<unsigned long long>); }
void ffs_test(Check& check) {
  bits_of<Ffs, int>(check, [](int x) {
    for (int bit = 0; bit < 32; ++bit) {
      if (static_cast<unsigned>(x) >> bit & 1) return bit + 1;
    }
    return 0;
  });
}
void clz_test(Check& check) {
  bits_of<Clz, int>(check, [](int x) {
    int zeros = 0;
    while (zeros < 32 && !(static_cast<unsigned>(x) >> (31 - zeros) & 1)) ++zeros;
    return zeros;
  });
}
void brev_test(Check& check) {
  bits_of<Brev, unsigned>(check, [](unsigned x) {
    unsigned reversed = 0;
    for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1) << (31 - bit);
    return reversed;
  });
}

}  // namespace

std::vector<Test> memory_tests() {
  return {{"memory.__ldg", move_test<Ldg>, "ld.global.nc"},
          {"memory.__ldca", move_test<Ldca>, "ld.global.ca"},
          {"memory.__ldcg", move_test<Ldcg>, "ld.global.cg"},
          {"memory.__ldcs", move_test<Ldcs>, "ld.global.cs"},
          {"memory.__ldlu", move_test<Ldlu>, "ld.global.lu"},
          {"memory.__ldcv", move_test<Ldcv>, "ld.global.cv"},
          {"memory.__stwb", move_test<Stwb>, "st.global.wb"},
          {"memory.__stcg", move_test<Stcg>, "st.global.cg"},
          {"memory.__stcs", move_test<Stcs>, "st.global.cs"},
          {"memory.__stwt", move_test<Stwt>, "st.global.wt"},
          {"memory.Vec", vec_test, "ld.global, st.global of vectors"},
          {"memory.load_vec", vec_test, "ld.global of vectors"},
          {"memory.store_vec", vec_test, "st.global of vectors"},
          {"memory.__popc", popc_test, "popc.b32"},
          {"memory.__popcll", popcll_test, "popc.b64"},
          {"memory.__ffs", ffs_test, "brev.b32, bfind.shiftamt.u32"},
          {"memory.__clz", clz_test, "clz.b32"},
          {"memory.__brev", brev_test, "brev.b32"}};
}

}  // namespace simt::selftest
