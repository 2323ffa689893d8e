// Arithmetic of half and bfloat16, single and packed: to the bit where it is rounded to nearest, elsewhere what rounds
// from within the documented error of the float instructions that it is made of.
#include "cuda/simt/selftest/half.cuh"

namespace simt::selftest {
namespace {

constexpr std::size_t kAny = 4096;
constexpr double kUnit = 0x1p-24;  // half an ulp of a float

// ---- operands: every pair of edges, then any bits

struct Operands {
  std::vector<Code> a, b, c;
};
Operands operands_of(FloatFormat f) {
  Operands x;
  const std::vector<Code> edges = edge_codes(f);
  for (const Code a : edges) {
    for (const Code b : edges) {
      x.a.push_back(a);
      x.b.push_back(b);
      x.c.push_back(edges[x.a.size() * 7 % edges.size()]);
    }
  }
  Random random(1);
  for (std::size_t i = 0; i < kAny; ++i) {
    const std::uint64_t bits = random();
    x.a.push_back(static_cast<Code>(bits));
    x.b.push_back(static_cast<Code>(bits >> 16));
    // Every second c makes a tie of a product, or nearly: next to nothing, of either sign.
    x.c.push_back(i % 2 == 0 ? static_cast<Code>(bits >> 32) : static_cast<Code>(bits >> 32 & 0x803F));
  }
  return x;
}

template <class Function, class H, class Out>
__global__ void single_kernel(Out* out, const H* a, const H* b, const H* c, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] = Function::apply(a[i], b[i], c[i]);
}
template <class Function, class H>
__global__ void pair_kernel(H* out, const H* a, const H* b, const H* c, int pairs) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= pairs) return;
  const auto y = Function::apply(pair_of(a[2 * i], a[2 * i + 1]), pair_of(b[2 * i], b[2 * i + 1]),
                                 pair_of(c[2 * i], c[2 * i + 1]));
  out[2 * i] = y.x;
  out[2 * i + 1] = y.y;
}
template <class H>
std::vector<H> typed(const std::vector<Code>& codes) {
  std::vector<H> x;
  for (const Code code : codes) x.push_back(bits_as<H>(code));
  return x;
}

enum class Width { kSingle, kPair };
template <class Function, class H, Width kWidth>
std::vector<Code> evaluate(const Operands& x) {
  const int n = static_cast<int>(x.a.size());
  const Array<H> out(x.a.size()), a(typed<H>(x.a)), b(typed<H>(x.b)), c(typed<H>(x.c));
  if constexpr (kWidth == Width::kSingle) {
    run(single_kernel<Function, H, H>, dim3((n + 127) / 128), 128, out, a, b, c, n);
  } else {
    run(pair_kernel<Function, H>, dim3((n + 255) / 256), 128, out, a, b, c, n / 2);
  }
  std::vector<Code> codes;
  for (const H& y : out.host()) codes.push_back(bits_as<Code>(y));
  return codes;
}
template <class H>
std::string describe(const Operands& x, std::size_t i) {
  return operands("a", value_of<H>(x.a[i]), "b", value_of<H>(x.b[i]), "c", value_of<H>(x.c[i]));
}

// ---- rounded to nearest

// `function` is written with a, b, c of the type or its pair; `exact` with doubles, and as encode() rounds right.
#define SIMT_HALF_EXACT(Name, function, exact_y)                                                           \
  struct Name {                                                                                            \
    template <class H>                                                                                     \
    static SIMT_DEV H apply([[maybe_unused]] H a, [[maybe_unused]] H b, [[maybe_unused]] H c) {            \
      return function;                                                                                     \
    }                                                                                                      \
    static double exact([[maybe_unused]] double a, [[maybe_unused]] double b, [[maybe_unused]] double c) { \
      return exact_y;                                                                                      \
    }                                                                                                      \
  };
// +0 is more than -0; a NaN loses against a number (IEEE 754-2019 maximumNumber) or, with _nan, wins.
double larger(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? b : a;
  return a == b ? (std::signbit(a) ? b : a) : std::max(a, b);
}
double smaller(double a, double b) { return -larger(-a, -b); }
double nan_or(double a, double b, double y) { return std::isnan(a) || std::isnan(b) ? a + b : y; }
double clamped(double x) { return x > 0 || std::isnan(x) ? x : 0.0; }

SIMT_HALF_EXACT(Fma, __hfma(a, b, c), fma_to_odd(a, b, c))
SIMT_HALF_EXACT(FmaRelu, __hfma_relu(a, b, c), clamped(fma_to_odd(a, b, c)))
SIMT_HALF_EXACT(Fma2, __hfma2(a, b, c), fma_to_odd(a, b, c))
SIMT_HALF_EXACT(Add, __hadd(a, b), fma_to_odd(a, 1, b))
SIMT_HALF_EXACT(Sub, __hsub(a, b), fma_to_odd(a, 1, -b))
SIMT_HALF_EXACT(Mul, __hmul(a, b), a* b)
SIMT_HALF_EXACT(Max, __hmax(a, b), larger(a, b))
SIMT_HALF_EXACT(Min, __hmin(a, b), smaller(a, b))
SIMT_HALF_EXACT(MaxNan, __hmax_nan(a, b), nan_or(a, b, larger(a, b)))
SIMT_HALF_EXACT(MinNan, __hmin_nan(a, b), nan_or(a, b, smaller(a, b)))
SIMT_HALF_EXACT(Neg, __hneg(a), -a)
SIMT_HALF_EXACT(Abs, __habs(a), std::abs(a))
SIMT_HALF_EXACT(Add2, __hadd2(a, b), fma_to_odd(a, 1, b))
SIMT_HALF_EXACT(Sub2, __hsub2(a, b), fma_to_odd(a, 1, -b))
SIMT_HALF_EXACT(Mul2, __hmul2(a, b), a* b)
SIMT_HALF_EXACT(Max2, __hmax2(a, b), larger(a, b))
SIMT_HALF_EXACT(Min2, __hmin2(a, b), smaller(a, b))
SIMT_HALF_EXACT(Neg2, __hneg2(a), -a)
SIMT_HALF_EXACT(Abs2, __habs2(a), std::abs(a))
#undef SIMT_HALF_EXACT

template <class Function, class H, Width kWidth>
void exact_test(Check& check) {
  // .relu makes 0 of what is negative: -0 may be meant or not. CUDA's host code of bfloat16's _nan versions does not
  // tell zeros apart; its device code must.
  constexpr bool kHostNan = SIMT_HOST && (std::is_same_v<Function, MaxNan> || std::is_same_v<Function, MinNan>);
  constexpr bool kAnyZero = kHostNan || std::is_same_v<Function, FmaRelu>;
  constexpr FloatFormat kFormat = HalfType<H>::kFormat;
  const Operands x = operands_of(kFormat);
  const std::vector<Code> got = evaluate<Function, H, kWidth>(x);
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double exact = Function::exact(value_of<H>(x.a[i]), value_of<H>(x.b[i]), value_of<H>(x.c[i]));
    const std::uint32_t wanted = encode(exact, kFormat);
    const bool any_zero = kAnyZero && exact == 0 && value_of<H>(got[i]) == 0;
    check.expect(any_zero || same_number(got[i], wanted, kFormat), [&] {
      return describe<H>(x, i) + ": got " + text(value_of<H>(got[i])) + ", want " + text(decode(wanted, kFormat));
    });
  }
}

// ---- of approximate float instructions

// `error` of y = exact(a): of the float that is rounded to the type in the end.
#define SIMT_HALF_APPROXIMATE(Name, function, exact_y, error_y)                                   \
  struct Name {                                                                                   \
    template <class H>                                                                            \
    static SIMT_DEV H apply(H a, [[maybe_unused]] H b, H) {                                       \
      return function;                                                                            \
    }                                                                                             \
    static double exact(double a, [[maybe_unused]] double b) { return exact_y; }                  \
    static double error([[maybe_unused]] double a, [[maybe_unused]] double y) { return error_y; } \
  };
// 2 ulp of ex2.approx, counted from the nearest float: 5 units; a float is rounded once more in hexp2 of half.
constexpr double kExp2 = 7 * kUnit;
// The exponent a log2 e: a product and a constant, rounded, so 2 units of it, which e^ makes relative.
double exp_error(double a, double y) { return y * (kExp2 + 2 * kUnit * std::abs(a)); }
// lg2.approx: 2^-22, in (0.5, 2) absolutely, else relatively. Then a product and a constant, rounded.
double log2_error(double a, double y) { return a > 0.5 && a < 2 ? 0x1p-22 : 0x1p-22 * std::abs(y); }
double log_error(double a, double y) {
  return log2_error(a, y / std::log(2.0)) * std::log(2.0) + 2 * kUnit * std::abs(y);
}
SIMT_HALF_APPROXIMATE(Exp, hexp(a), std::exp(a), exp_error(a, y))
SIMT_HALF_APPROXIMATE(Exp2, hexp2(a), std::exp2(a), y* kExp2)
SIMT_HALF_APPROXIMATE(Log, hlog(a), std::log(a), log_error(a, y))
SIMT_HALF_APPROXIMATE(Log2, hlog2(a), std::log2(a), log2_error(a, y))
SIMT_HALF_APPROXIMATE(Sqrt, hsqrt(a), std::sqrt(a), y * 0x1p-23)                // sqrt.approx
SIMT_HALF_APPROXIMATE(Rsqrt, hrsqrt(a), 1 / std::sqrt(a), y* std::exp2(-22.9))  // rsqrt.approx
SIMT_HALF_APPROXIMATE(Rcp, hrcp(a), 1 / a, 3 * kUnit * std::abs(y))             // rcp.approx: 1 ulp
SIMT_HALF_APPROXIMATE(Div, __hdiv(a, b), a / b, 4 * kUnit * std::abs(y))        // rcp.approx times a
SIMT_HALF_APPROXIMATE(Exp_2, h2exp(a), std::exp(a), exp_error(a, y))
SIMT_HALF_APPROXIMATE(Exp2_2, h2exp2(a), std::exp2(a), y* kExp2)
SIMT_HALF_APPROXIMATE(Log_2, h2log(a), std::log(a), log_error(a, y))
SIMT_HALF_APPROXIMATE(Sqrt_2, h2sqrt(a), std::sqrt(a), y * 0x1p-23)
SIMT_HALF_APPROXIMATE(Rsqrt_2, h2rsqrt(a), 1 / std::sqrt(a), y* std::exp2(-22.9))
SIMT_HALF_APPROXIMATE(Rcp_2, h2rcp(a), 1 / a, 3 * kUnit * std::abs(y))
SIMT_HALF_APPROXIMATE(Div_2, __h2div(a, b), a / b, 4 * kUnit * std::abs(y))
#undef SIMT_HALF_APPROXIMATE

template <class Function, class H, Width kWidth>
void approximate_test(Check& check) {
  constexpr FloatFormat kFormat = HalfType<H>::kFormat;
  const Operands x = operands_of(kFormat);
  const std::vector<Code> got = evaluate<Function, H, kWidth>(x);
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double a = value_of<H>(x.a[i]), exact = Function::exact(a, value_of<H>(x.b[i]));
    check.expect(rounded_from(got[i], exact, Function::error(a, exact), kFormat),
                 [&] { return describe<H>(x, i) + ": got " + text(value_of<H>(got[i])) + ", exactly " + text(exact); });
  }
}

// ---- comparisons: bit i of the result is comparison i

struct Compare {
  template <class H>
  static SIMT_DEV int apply(H a, H b, H) {
    return int{__heq(a, b)} | int{__hne(a, b)} << 1 | int{__hlt(a, b)} << 2 | int{__hle(a, b)} << 3 |
           int{__hgt(a, b)} << 4 | int{__hge(a, b)} << 5 | int{__hisnan(a)} << 6;
  }
};
template <class H>
void compare_test(Check& check) {
  const Operands x = operands_of(HalfType<H>::kFormat);
  const int n = static_cast<int>(x.a.size());
  const Array<int> out(x.a.size());
  run(single_kernel<Compare, H, int>, dim3((n + 127) / 128), 128, out, Array<H>(typed<H>(x.a)), Array<H>(typed<H>(x.b)),
      Array<H>(typed<H>(x.c)), n);
  const std::vector<int> got = out.host();
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double a = value_of<H>(x.a[i]), b = value_of<H>(x.b[i]);
    const bool unordered = std::isnan(a) || std::isnan(b);  // then != is false, too (cuda_fp16.h, __hne)
    const int wanted = int{a == b} | int{!unordered && a != b} << 1 | int{a < b} << 2 | int{a <= b} << 3 |
                       int{a > b} << 4 | int{a >= b} << 5 | int{std::isnan(a)} << 6;
    check.equal(got[i], wanted, [&] { return describe<H>(x, i); });
  }
}

}  // namespace

std::vector<Test> half_tests() {
  constexpr Width kSingle = Width::kSingle, kPair = Width::kPair;
  using B = __nv_bfloat16;
  return {
      {"half.__hfma/half", exact_test<Fma, __half, kSingle>, "fma.rn.f16"},
      {"half.__hfma/bfloat16", exact_test<Fma, B, kSingle>, "fma.rn.bf16"},
      {"half.__hfma_relu/half", exact_test<FmaRelu, __half, kSingle>, "fma.rn.relu.f16"},
      {"half.__hfma_relu/bfloat16", exact_test<FmaRelu, B, kSingle>, "fma.rn.relu.bf16"},
      {"half.__hadd/half", exact_test<Add, __half, kSingle>, "add.f16"},
      {"half.__hadd/bfloat16", exact_test<Add, B, kSingle>, "fma.rn.bf16"},
      {"half.__hsub/half", exact_test<Sub, __half, kSingle>, "sub.f16"},
      {"half.__hsub/bfloat16", exact_test<Sub, B, kSingle>, "fma.rn.bf16"},
      {"half.__hmul/half", exact_test<Mul, __half, kSingle>, "mul.f16"},
      {"half.__hmul/bfloat16", exact_test<Mul, B, kSingle>, "fma.rn.bf16"},
      {"half.__hmax/half", exact_test<Max, __half, kSingle>, "max.f16"},
      {"half.__hmax/bfloat16", exact_test<Max, B, kSingle>, "max.bf16"},
      {"half.__hmin/half", exact_test<Min, __half, kSingle>, "min.f16"},
      {"half.__hmin/bfloat16", exact_test<Min, B, kSingle>, "min.bf16"},
      {"half.__hmax_nan/half", exact_test<MaxNan, __half, kSingle>, "max.NaN.f16"},
      {"half.__hmax_nan/bfloat16", exact_test<MaxNan, B, kSingle>, "max.NaN.bf16"},
      {"half.__hmin_nan/half", exact_test<MinNan, __half, kSingle>, "min.NaN.f16"},
      {"half.__hmin_nan/bfloat16", exact_test<MinNan, B, kSingle>, "min.NaN.bf16"},
      {"half.__hneg/half", exact_test<Neg, __half, kSingle>, "neg.f16"},
      {"half.__hneg/bfloat16", exact_test<Neg, B, kSingle>, "neg.bf16"},
      {"half.__habs/half", exact_test<Abs, __half, kSingle>, "abs.f16"},
      {"half.__habs/bfloat16", exact_test<Abs, B, kSingle>, "abs.bf16"},
      {"half.__hfma2/half", exact_test<Fma2, __half, kPair>, "fma.rn.f16x2"},
      {"half.__hfma2/bfloat16", exact_test<Fma2, B, kPair>, "fma.rn.bf16x2"},
      {"half.__hadd2/half", exact_test<Add2, __half, kPair>, "add.f16x2"},
      {"half.__hadd2/bfloat16", exact_test<Add2, B, kPair>, "fma.rn.bf16x2"},
      {"half.__hsub2/half", exact_test<Sub2, __half, kPair>, "sub.f16x2"},
      {"half.__hsub2/bfloat16", exact_test<Sub2, B, kPair>, "fma.rn.bf16x2"},
      {"half.__hmul2/half", exact_test<Mul2, __half, kPair>, "mul.f16x2"},
      {"half.__hmul2/bfloat16", exact_test<Mul2, B, kPair>, "fma.rn.bf16x2"},
      {"half.__hmax2/half", exact_test<Max2, __half, kPair>, "max.f16x2"},
      {"half.__hmax2/bfloat16", exact_test<Max2, B, kPair>, "max.bf16x2"},
      {"half.__hmin2/half", exact_test<Min2, __half, kPair>, "min.f16x2"},
      {"half.__hmin2/bfloat16", exact_test<Min2, B, kPair>, "min.bf16x2"},
      {"half.__hneg2/half", exact_test<Neg2, __half, kPair>, "neg.f16x2"},
      {"half.__hneg2/bfloat16", exact_test<Neg2, B, kPair>, "neg.bf16x2"},
      {"half.__habs2/half", exact_test<Abs2, __half, kPair>, "abs.f16x2"},
      {"half.__habs2/bfloat16", exact_test<Abs2, B, kPair>, "abs.bf16x2"},
      {"half.hexp/half", approximate_test<Exp, __half, kSingle>, "ex2.approx.ftz.f32, set.eq.f16.f16, fma.rn.f16"},
      {"half.hexp/bfloat16", approximate_test<Exp, B, kSingle>, "ex2.approx.f32"},
      {"half.hexp2/half", approximate_test<Exp2, __half, kSingle>, "ex2.approx.ftz.f32"},
      {"half.hexp2/bfloat16", approximate_test<Exp2, B, kSingle>, "ex2.approx.f32"},
      {"half.hlog/half", approximate_test<Log, __half, kSingle>, "lg2.approx.ftz.f32, set.eq.f16.f16, fma.rn.f16"},
      {"half.hlog/bfloat16", approximate_test<Log, B, kSingle>, "lg2.approx.f32"},
      {"half.hlog2/half", approximate_test<Log2, __half, kSingle>, "lg2.approx.ftz.f32, set.eq.f16.f16, fma.rn.f16"},
      {"half.hlog2/bfloat16", approximate_test<Log2, B, kSingle>, "lg2.approx.f32"},
      {"half.hsqrt/half", approximate_test<Sqrt, __half, kSingle>, "sqrt.approx.ftz.f32"},
      {"half.hsqrt/bfloat16", approximate_test<Sqrt, B, kSingle>, "sqrt.approx.f32"},
      {"half.hrsqrt/half", approximate_test<Rsqrt, __half, kSingle>, "rsqrt.approx.ftz.f32"},
      {"half.hrsqrt/bfloat16", approximate_test<Rsqrt, B, kSingle>, "rsqrt.approx.f32"},
      {"half.hrcp/half", approximate_test<Rcp, __half, kSingle>, "rcp.approx.ftz.f32"},
      {"half.hrcp/bfloat16", approximate_test<Rcp, B, kSingle>, "rcp.approx.f32"},
      {"half.h2exp/half", approximate_test<Exp_2, __half, kPair>,
       "ex2.approx.ftz.f32, set.eq.f16x2.f16x2, fma.rn.f16x2"},
      {"half.h2exp/bfloat16", approximate_test<Exp_2, B, kPair>, "ex2.approx.f32"},
      {"half.h2exp2/half", approximate_test<Exp2_2, __half, kPair>, "ex2.approx.ftz.f32"},
      {"half.h2exp2/bfloat16", approximate_test<Exp2_2, B, kPair>, "ex2.approx.f32"},
      {"half.h2log/half", approximate_test<Log_2, __half, kPair>,
       "lg2.approx.ftz.f32, set.eq.f16x2.f16x2, fma.rn.f16x2"},
      {"half.h2log/bfloat16", approximate_test<Log_2, B, kPair>, "lg2.approx.f32"},
      {"half.h2sqrt/half", approximate_test<Sqrt_2, __half, kPair>, "sqrt.approx.ftz.f32"},
      {"half.h2sqrt/bfloat16", approximate_test<Sqrt_2, B, kPair>, "sqrt.approx.f32"},
      {"half.h2rsqrt/half", approximate_test<Rsqrt_2, __half, kPair>, "rsqrt.approx.ftz.f32"},
      {"half.h2rsqrt/bfloat16", approximate_test<Rsqrt_2, B, kPair>, "rsqrt.approx.f32"},
      {"half.h2rcp/half", approximate_test<Rcp_2, __half, kPair>, "rcp.approx.ftz.f32"},
      {"half.h2rcp/bfloat16", approximate_test<Rcp_2, B, kPair>, "rcp.approx.f32"},
      {"half.__hdiv/half", approximate_test<Div, __half, kSingle>, "rcp.approx.ftz.f32"},
      {"half.__hdiv/bfloat16", approximate_test<Div, B, kSingle>, "rcp.approx.ftz.f32"},
      {"half.__h2div/half", approximate_test<Div_2, __half, kPair>, "rcp.approx.ftz.f32"},
      {"half.__h2div/bfloat16", approximate_test<Div_2, B, kPair>, "rcp.approx.ftz.f32"},
      {"half.__heq/half", compare_test<__half>, "set.eq.f16.f16 and its like"},
      {"half.__heq/bfloat16", compare_test<B>, "set.eq.bf16.bf16 and its like"}};
}

}  // namespace simt::selftest
