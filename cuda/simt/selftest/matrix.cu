// ldmatrix, stmatrix and mma.sync against matrices that are read, written and multiplied one element at a time.
#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"
#include "cuda/simt/selftest/float_format.h"
#include "cuda/simt/selftest/operands.h"

namespace simt::selftest {
namespace {

// ---- ldmatrix, stmatrix. Row r of shared memory (16 bytes) lies at place[r], so that rows are in no order.

constexpr int kRows = 32;
using Row = Vec<std::uint16_t, 8>;

std::vector<int> places(unsigned seed) {
  std::vector<int> place;
  for (int r = 0; r < kRows; ++r) place.push_back(r);
  return shuffled(place, seed);
}

enum class Spelling { kCount, kX4 };
template <int kCount, bool kTranspose, Spelling kSpelling>
__global__ void load_kernel(std::uint32_t* out, const std::uint16_t* memory, const int* place) {
  SIMT_SHARED(Row[kRows], rows);
  const int lane = static_cast<int>(threadIdx.x);
  rows[lane] = load_vec<8>(memory + 8 * lane);
  __syncwarp();
  std::uint32_t r[kCount];
  if constexpr (kSpelling == Spelling::kX4) {
    ldmatrix_x4<kTranspose>(r, &rows[place[lane]]);
  } else {
    ldmatrix<kCount, kTranspose>(r, &rows[place[lane]]);
  }
  SIMT_UNROLL
  for (int i = 0; i < kCount; ++i) out[lane * kCount + i] = r[i];
}
template <int kCount, bool kTranspose>
__global__ void store_kernel(std::uint16_t* memory, const std::uint32_t* in, const int* place) {
  SIMT_SHARED(Row[kRows], rows);
  const int lane = static_cast<int>(threadIdx.x);
  rows[lane] = load_vec<8>(memory + 8 * lane);
  __syncwarp();
  std::uint32_t r[kCount];
  SIMT_UNROLL
  for (int i = 0; i < kCount; ++i) r[i] = in[lane * kCount + i];
  stmatrix<kCount, kTranspose>(&rows[place[lane]], r);
  __syncwarp();
  store_vec<8>(memory + 8 * lane, rows[lane]);
}

// Element of memory that half h of register i of a lane corresponds to.
std::size_t element(bool transpose, int lane, int i, int h, const std::vector<int>& place) {
  const int row = transpose ? 2 * (lane % 4) + h : lane / 4, column = transpose ? lane / 4 : 2 * (lane % 4) + h;
  return static_cast<std::size_t>(8 * place[static_cast<std::size_t>(8 * i + row)] + column);
}
std::vector<std::uint16_t> any_halves(std::size_t count, unsigned seed) {
  return any_integers<std::uint16_t>(count, seed);
}

template <int kCount, bool kTranspose, Spelling kSpelling = Spelling::kCount>
void load_test(Check& check) {
  for (unsigned seed = 1; seed <= 8; ++seed) {
    const std::vector<int> place = places(seed);
    const std::vector<std::uint16_t> memory = any_halves(8 * kRows, seed);
    const Array<std::uint32_t> out(32 * kCount);
    run(load_kernel<kCount, kTranspose, kSpelling>, 1, 32, out, Array<std::uint16_t>(memory), Array<int>(place));
    const std::vector<std::uint32_t> got = out.host();
    for (int j = 0; j < 64 * kCount; ++j) {
      const int lane = j / 2 / kCount, i = j / 2 % kCount, h = j % 2;
      const auto half = static_cast<std::uint16_t>(got[static_cast<std::size_t>(j / 2)] >> 16 * h);
      check.equal(half, memory[element(kTranspose, lane, i, h, place)],
                  [&] { return operands("lane", lane, "register", i, "half", h); });
    }
  }
}
template <int kCount, bool kTranspose>
void store_test(Check& check) {
  for (unsigned seed = 1; seed <= 8; ++seed) {
    const std::vector<int> place = places(seed);
    const std::vector<std::uint16_t> before = any_halves(8 * kRows, seed);
    const std::vector<std::uint32_t> in = any_integers<std::uint32_t>(32 * kCount, seed + 100);
    const Array<std::uint16_t> memory(before);
    run(store_kernel<kCount, kTranspose>, 1, 32, memory, Array<std::uint32_t>(in), Array<int>(place));
    std::vector<std::uint16_t> wanted = before;  // rows beyond the matrices stay as they were
    for (int j = 0; j < 64 * kCount; ++j) {
      const int lane = j / 2 / kCount, i = j / 2 % kCount, h = j % 2;
      wanted[element(kTranspose, lane, i, h, place)] =
          static_cast<std::uint16_t>(in[static_cast<std::size_t>(j / 2)] >> 16 * h);
    }
    const std::vector<std::uint16_t> got = memory.host();
    for (std::size_t e = 0; e < got.size(); ++e) {
      check.equal(got[e], wanted[e], [&] { return operands("row", e / 8, "column", e % 8); });
    }
  }
}

// ---- mma.sync. Operands lie row by row, A [16, K], B [8, K] (its columns), one after the other in bits.

struct Bf16 {
  using Sum = float;
  static constexpr int kBits = 16;
  static SIMT_DEV void apply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                             const float (&c)[4]) {
    mma_bf16_16816(d, a, b, c);
  }
  static double value(std::uint32_t bits) { return decode(bits, kBf16); }
};
struct F16 {
  using Sum = float;
  static constexpr int kBits = 16;
  static SIMT_DEV void apply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                             const float (&c)[4]) {
    mma_f16_16816(d, a, b, c);
  }
  static double value(std::uint32_t bits) { return decode(bits, kHalf); }
};
struct Tf32 {
  using Sum = float;
  static constexpr int kBits = 32;
  static SIMT_DEV void apply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                             const float (&c)[4]) {
    mma_tf32_1688(d, a, b, c);
  }
  static double value(std::uint32_t bits) { return bits_as<float>(bits); }
};
// Whole floats, each in two parts of tf32.
struct ThreeTf32 {
  using Sum = float;
  static constexpr int kBits = 32;
  static SIMT_DEV void apply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                             const float (&c)[4]) {
    std::uint32_t a_upper[4], a_lower[4], b_upper[2], b_lower[2];
    SIMT_UNROLL
    for (int q = 0; q < 4; ++q) split(a[q], a_upper[q], a_lower[q]);
    SIMT_UNROLL
    for (int q = 0; q < 2; ++q) split(b[q], b_upper[q], b_lower[q]);
    SIMT_UNROLL
    for (int q = 0; q < 4; ++q) d[q] = c[q];
    mma_3xtf32_1688(d, a_upper, a_lower, b_upper, b_lower);
  }
  static double value(std::uint32_t bits) { return bits_as<float>(bits); }

 private:
  static SIMT_DEV void split(std::uint32_t bits, std::uint32_t& upper, std::uint32_t& lower) {
    const float x = __uint_as_float(bits);
    upper = to_tf32(x);
    lower = to_tf32(x - __uint_as_float(upper));
  }
};
struct E4m3 {
  using Sum = float;
  static constexpr int kBits = 8;
  static SIMT_DEV void apply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                             const float (&c)[4]) {
    mma_e4m3_16832(d, a, b, c);
  }
  static double value(std::uint32_t bits) { return decode(bits, kE4m3); }
};
struct E5m2 {
  using Sum = float;
  static constexpr int kBits = 8;
  static SIMT_DEV void apply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                             const float (&c)[4]) {
    mma_e5m2_16832(d, a, b, c);
  }
  static double value(std::uint32_t bits) { return decode(bits, kE5m2); }
};
struct S8 {
  using Sum = int;
  static constexpr int kBits = 8;
  static SIMT_DEV void apply(int (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], const int (&c)[4]) {
    mma_s8_16832(d, a, b, c);
  }
  static double value(std::uint32_t bits) { return static_cast<std::int8_t>(bits); }
};
struct U8 {
  using Sum = int;
  static constexpr int kBits = 8;
  static SIMT_DEV void apply(int (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], const int (&c)[4]) {
    mma_u8_16832(d, a, b, c);
  }
  static double value(std::uint32_t bits) { return bits & 0xFF; }
};

constexpr int kM = 16, kN = 8;

// One warp a block. Register q of a lane lies at [block][q][lane]; kInPlace: d and c are the same registers.
template <class Element, bool kInPlace>
__global__ void multiply_kernel(typename Element::Sum* out, const std::uint32_t* a, const std::uint32_t* b,
                                const typename Element::Sum* c) {
  using Sum = typename Element::Sum;
  const unsigned lane = threadIdx.x, block = blockIdx.x;
  std::uint32_t ra[4], rb[2];
  Sum rc[4];
  SIMT_UNROLL
  for (unsigned q = 0; q < 4; ++q) {
    ra[q] = a[(block * 4 + q) * 32 + lane];
    rc[q] = c[(block * 4 + q) * 32 + lane];
  }
  SIMT_UNROLL
  for (unsigned q = 0; q < 2; ++q) rb[q] = b[(block * 2 + q) * 32 + lane];
  if constexpr (kInPlace) {
    Element::apply(rc, ra, rb, rc);
    SIMT_UNROLL
    for (unsigned q = 0; q < 4; ++q) out[(block * 4 + q) * 32 + lane] = rc[q];
  } else {
    Sum rd[4];
    Element::apply(rd, ra, rb, rc);
    SIMT_UNROLL
    for (unsigned q = 0; q < 4; ++q) out[(block * 4 + q) * 32 + lane] = rd[q];
  }
}

template <class Element>
struct Product {
  static constexpr int kPer = 32 / Element::kBits, kK = 8 * kPer;
  using Sum = typename Element::Sum;
  std::vector<std::uint32_t> a, b;  // bits of one element each: [16, K], [8, K]
  std::vector<Sum> c;               // [16, 8]
};
// The matrices as registers: PTX ISA, Matrix Fragments for mma.m16n8.
template <class Element>
void append_fragments(const Product<Element>& p, std::vector<std::uint32_t>& a, std::vector<std::uint32_t>& b,
                      std::vector<typename Element::Sum>& c) {
  constexpr int kPer = Product<Element>::kPer, kK = Product<Element>::kK;
  const auto pack = [](const std::uint32_t* elements) {
    std::uint32_t bits = 0;
    for (int e = 0; e < kPer; ++e) bits |= elements[e] << (Element::kBits * e % 32);
    return bits;
  };
  for (int q = 0; q < 4; ++q) {
    for (int lane = 0; lane < 32; ++lane) {
      const int row = lane / 4 + 8 * (q % 2), column = lane % 4 * kPer + 4 * kPer * (q / 2);
      a.push_back(pack(&p.a[static_cast<std::size_t>(row * kK + column)]));
      c.push_back(p.c[static_cast<std::size_t>((lane / 4 + 8 * (q / 2)) * kN + 2 * (lane % 4) + q % 2)]);
    }
  }
  for (int q = 0; q < 2; ++q) {
    for (int lane = 0; lane < 32; ++lane) {
      b.push_back(pack(&p.b[static_cast<std::size_t>(lane / 4 * kK + lane % 4 * kPer + 4 * kPer * q)]));
    }
  }
}

// Any product of two elements is finite, any sum of them far from overflow: exponents near that of 1.
template <class Element>
std::uint32_t moderate_bits(Random& random) {
  for (;;) {
    auto bits = static_cast<std::uint32_t>(random());
    if constexpr (Element::kBits < 32) bits &= (1u << Element::kBits) - 1;
    if constexpr (std::is_same_v<Element, Tf32>) bits &= ~0x1FFFu;
    const double magnitude = std::abs(Element::value(bits));
    if (std::is_same_v<typename Element::Sum, int> || magnitude == 0 || (magnitude >= 0x1p-8 && magnitude <= 0x1p8)) {
      return bits;
    }
  }
}

template <class Element>
std::vector<Product<Element>> products() {
  using P = Product<Element>;
  using Sum = typename Element::Sum;
  std::vector<P> result;
  Random random(1);
  const std::size_t k = P::kK;
  for (int i = 0; i < 48; ++i) {
    P p;
    for (std::size_t e = 0; e < kM * k; ++e) p.a.push_back(moderate_bits<Element>(random));
    for (std::size_t e = 0; e < kN * k; ++e) p.b.push_back(moderate_bits<Element>(random));
    for (int e = 0; e < kM * kN; ++e) p.c.push_back(static_cast<Sum>(static_cast<int>(random() % 2001) - 1000));
    if (i % 3 == 1) {  // one element of A in a row: what comes out is one element of B
      for (std::size_t e = 0; e < kM * k; ++e) {
        if (e % k != (e / k * 5 + static_cast<std::size_t>(i)) % k) p.a[e] = 0;
      }
      for (Sum& c : p.c) c = 0;
    }
    result.push_back(p);
  }
  return result;
}

template <class Element>
void multiply_test(Check& check) {
  using P = Product<Element>;
  using Sum = typename Element::Sum;
  const std::vector<P> all = products<Element>();
  std::vector<std::uint32_t> a, b;
  std::vector<Sum> c;
  for (const P& p : all) append_fragments(p, a, b, c);
  const Array<std::uint32_t> device_a(a), device_b(b);
  const Array<Sum> device_c(c);
  for (const bool in_place : {false, true}) {
    const Array<Sum> out(c.size());
    run(in_place ? multiply_kernel<Element, true> : multiply_kernel<Element, false>, static_cast<unsigned>(all.size()),
        32, out, device_a, device_b, device_c);
    const std::vector<Sum> got = out.host();
    for (std::size_t i = 0; i < got.size(); ++i) {
      const P& p = all[i / 128];
      const std::size_t q = i / 32 % 4, lane = i % 32, row = lane / 4 + 8 * (q / 2), column = 2 * (lane % 4) + q % 2;
      double exact = static_cast<double>(p.c[row * kN + column]), magnitude = std::abs(exact);
      for (std::size_t k = 0; k < P::kK; ++k) {
        const double term = Element::value(p.a[row * P::kK + k]) * Element::value(p.b[column * P::kK + k]);
        exact += term;
        magnitude += std::abs(term);
      }
      const auto describe = [&] { return operands("product", i / 128, "row", row, "column", column); };
      if constexpr (std::is_same_v<Sum, int>) {
        check.equal(got[i], static_cast<int>(exact), describe);
      } else {
        // PTX leaves order and rounding of the sum open. K + 1 terms, each aligned to the largest magnitude and
        // truncated to 13 bits below fp8's leading bit or 23 below the others' (what accumulators are known to keep).
        // Three tf32 products: three such sums, without the product of the lower parts (2^-22 of the whole) and with
        // each lower part rounded (2^-22 of its operand).
        constexpr bool kThree = std::is_same_v<Element, ThreeTf32>;
        const double unit = Element::kBits == 8 ? 0x1p-13 : 0x1p-23;
        const double sums = (kThree ? 3 : 1) * (P::kK + 1) * unit, parts = kThree ? 3 * 0x1p-22 : 0;
        check.near(static_cast<double>(got[i]), exact, (sums + parts) * magnitude, describe);
      }
    }
  }
}

}  // namespace

std::vector<Test> matrix_tests() {
  return {
      {"matrix.ldmatrix/x1", load_test<1, false>, "ldmatrix.sync.aligned.m8n8.x1.shared.b16"},
      {"matrix.ldmatrix/x1.trans", load_test<1, true>, "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16"},
      {"matrix.ldmatrix/x2", load_test<2, false>, "ldmatrix.sync.aligned.m8n8.x2.shared.b16"},
      {"matrix.ldmatrix/x2.trans", load_test<2, true>, "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16"},
      {"matrix.ldmatrix/x4", load_test<4, false>, "ldmatrix.sync.aligned.m8n8.x4.shared.b16"},
      {"matrix.ldmatrix/x4.trans", load_test<4, true>, "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"},
      {"matrix.ldmatrix_x4", load_test<4, false, Spelling::kX4>, "ldmatrix.sync.aligned.m8n8.x4.shared.b16"},
      {"matrix.ldmatrix_x4/trans", load_test<4, true, Spelling::kX4>, "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"},
      {"matrix.stmatrix/x1", store_test<1, false>, "stmatrix.sync.aligned.m8n8.x1.shared.b16 (sm_90)"},
      {"matrix.stmatrix/x1.trans", store_test<1, true>, "stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 (sm_90)"},
      {"matrix.stmatrix/x2", store_test<2, false>, "stmatrix.sync.aligned.m8n8.x2.shared.b16 (sm_90)"},
      {"matrix.stmatrix/x2.trans", store_test<2, true>, "stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 (sm_90)"},
      {"matrix.stmatrix/x4", store_test<4, false>, "stmatrix.sync.aligned.m8n8.x4.shared.b16 (sm_90)"},
      {"matrix.stmatrix/x4.trans", store_test<4, true>, "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 (sm_90)"},
      {"matrix.mma_bf16_16816", multiply_test<Bf16>, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"},
      {"matrix.mma_f16_16816", multiply_test<F16>, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"},
      {"matrix.mma_tf32_1688", multiply_test<Tf32>, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"},
      {"matrix.mma_3xtf32_1688", multiply_test<ThreeTf32>, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"},
      {"matrix.mma_s8_16832", multiply_test<S8>, "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32"},
      {"matrix.mma_u8_16832", multiply_test<U8>, "mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32"},
      {"matrix.mma_e4m3_16832", multiply_test<E4m3>, "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32", 89},
      {"matrix.mma_e5m2_16832", multiply_test<E5m2>, "mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e5m2.f32", 89}};
}

}  // namespace simt::selftest
