// Approximate arithmetic within its documented error, exact arithmetic to the bit. math_host.h names the sources.
#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"
#include "cuda/simt/selftest/float_format.h"
#include "cuda/simt/selftest/operands.h"

namespace simt::selftest {
namespace {

constexpr std::size_t kCount = 4096;
constexpr FloatFormat kFloat{8, 23, true};

// n ulp from the nearest float, which is not y (CUDA C++ Programming Guide, Mathematical Functions).
double ulps(double n, double y) {
  const double nearest = static_cast<float>(y);
  return n * ulp(nearest, kFloat) + std::abs(nearest - y);
}

// ---- one argument. Each: the wrapper, the exact function, the documented error at x with the exact result y, the
// range where it holds, and arguments with an exact result.

struct Special {
  float x, y;
};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class Function>
void approximate_test(Check& check) {
  const std::vector<float> x = floats_between(Function::kLow, Function::kHigh, kCount, 1);
  const std::vector<float> got = map<Function, float>(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double exact = Function::exact(static_cast<double>(x[i]));
    check.near(static_cast<double>(got[i]), exact, Function::error(static_cast<double>(x[i]), exact),
               [&] { return operands("x", x[i]); });
  }
  std::vector<float> special;
  for (const Special& s : Function::specials()) special.push_back(s.x);
  special.push_back(std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> got_special = map<Function, float>(special);
  for (std::size_t i = 0; i < special.size(); ++i) {
    const bool nan = i + 1 == special.size();
    check.equal(got_special[i], nan ? special[i] : Function::specials()[i].y,
                [&] { return operands("x", special[i]); });
  }
}

#define SIMT_APPROXIMATE(Name, wrapper, low, high, exact_y, error_y, ...)                         \
  struct Name {                                                                                   \
    static constexpr float kLow = low, kHigh = high;                                              \
    static SIMT_DEV float apply(float x) { return wrapper(x); }                                   \
    static double exact(double x) { return exact_y; }                                             \
    static double error([[maybe_unused]] double x, [[maybe_unused]] double y) { return error_y; } \
    static std::vector<Special> specials() { return {__VA_ARGS__}; }                              \
  };
// clang-format off
SIMT_APPROXIMATE(Exp, __expf, -80, 80, std::exp(x), ulps(2 + std::floor(std::abs(1.173 * x)), y),
                 {0, 1}, {-0.0f, 1}, {-200, 0}, {200, kInfinity}, {-kInfinity, 0}, {kInfinity, kInfinity})
SIMT_APPROXIMATE(Exp10, __exp10f, -30, 30, std::pow(10.0, x), ulps(2 + std::floor(std::abs(2.97 * x)), y),
                 {0, 1}, {-100, 0}, {100, kInfinity})
SIMT_APPROXIMATE(Log, __logf, 1e-3f, 4, std::log(x), x >= 0.5 && x <= 2 ? std::exp2(-21.41) : ulps(3, y),
                 {0, -kInfinity}, {kInfinity, kInfinity})
SIMT_APPROXIMATE(Log2, __log2f, 1e-3f, 4, std::log2(x), x >= 0.5 && x <= 2 ? 0x1p-22 : ulps(2, y),
                 {0, -kInfinity}, {kInfinity, kInfinity})
SIMT_APPROXIMATE(Log10, __log10f, 1e-3f, 4, std::log10(x), x >= 0.5 && x <= 2 ? 0x1p-24 : ulps(3, y),
                 {0, -kInfinity}, {kInfinity, kInfinity})
SIMT_APPROXIMATE(Sin, __sinf, -3.1415925f, 3.1415925f, std::sin(x), std::exp2(-21.41), {0, 0})
SIMT_APPROXIMATE(Cos, __cosf, -3.1415925f, 3.1415925f, std::cos(x), std::exp2(-21.19), {0, 1})
SIMT_APPROXIMATE(Rsqrt, rsqrtf, 1e-6f, 1e6f, 1 / std::sqrt(x), ulps(2, y), {0, kInfinity}, {kInfinity, 0})
SIMT_APPROXIMATE(FastExp2, fast_exp2, -120, 120, std::exp2(x), ulps(2, y),
                 {0, 1}, {-0.0f, 1}, {0x1p-140f, 1}, {-140, 0}, {130, kInfinity}, {-kInfinity, 0},
                 {kInfinity, kInfinity})
SIMT_APPROXIMATE(FastLog2, fast_log2, 1e-3f, 4, std::log2(x), x > 0.5 && x < 2 ? 0x1p-22 : 0x1p-22 * std::abs(y),
                 {0, -kInfinity}, {-0.0f, -kInfinity}, {0x1p-140f, -kInfinity}, {kInfinity, kInfinity})
SIMT_APPROXIMATE(FastRsqrt, fast_rsqrt, 1e-6f, 1e6f, 1 / std::sqrt(x), std::exp2(-22.9) * y,
                 {0, kInfinity}, {-0.0f, -kInfinity}, {0x1p-140f, kInfinity}, {kInfinity, 0})
SIMT_APPROXIMATE(FastRcp, fast_rcp, 1e-6f, 1e6f, 1 / x, ulps(1, y),
                 {0, kInfinity}, {-0.0f, -kInfinity}, {0x1p-140f, kInfinity}, {kInfinity, 0}, {-kInfinity, -0.0f},
                 {0x1p127f, 0})
SIMT_APPROXIMATE(FastTanh, fast_tanh, -6, 6, std::tanh(x), 0x1p-11 * std::abs(y),
                 {0, 0}, {-0.0f, -0.0f}, {kInfinity, 1}, {-kInfinity, -1})
// clang-format on
#undef SIMT_APPROXIMATE

// ---- two and three arguments

struct Fdividef {
  static SIMT_DEV float apply(float x, float y) { return __fdividef(x, y); }
};
void fdividef_test(Check& check) {
  const std::vector<float> x = floats_between(-1e3f, 1e3f, kCount, 2), y = floats_between(1e-3f, 1e3f, kCount, 3);
  const std::vector<float> got = map<Fdividef, float>(x, y);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double exact = static_cast<double>(x[i]) / static_cast<double>(y[i]);
    check.near(static_cast<double>(got[i]), exact, ulps(2, exact), [&] { return operands("x", x[i], "y", y[i]); });
  }
}

// __powf is exp2(y log2 x) by the approximate instructions (Programming Guide: "derived from exp2f(y * __log2f(x))"):
// the logarithm's error and the product's rounding times y ln 2, then 2 ulp from the float nearest to that.
struct Powf {
  static SIMT_DEV float apply(float x, float y) { return __powf(x, y); }
};
void powf_test(Check& check) {
  const std::vector<float> x = floats_between(1e-2f, 1e2f, kCount, 2), y = floats_between(-10, 10, kCount, 3);
  const std::vector<float> got = map<Powf, float>(x, y);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double base = x[i], power = y[i], exact = std::pow(base, power), logarithm = std::log2(base);
    const double log_error = base >= 0.5 && base <= 2 ? 0x1p-22 : ulps(2, logarithm);
    const double exponent_error = std::abs(power) * log_error + 0x1p-24 * std::abs(power * logarithm);
    check.near(static_cast<double>(got[i]), exact,
               2.5 * ulp(exact, kFloat) * (1 + exponent_error) + exact * std::expm1(exponent_error * std::log(2.0)),
               [&] { return operands("x", x[i], "y", y[i]); });
  }
}

// Rounded once, in effect: no float's reciprocal root is nearer to a midpoint of floats than 2^-28.5 ulp (all were
// tried), and long double is good to 2^-39 of them.
float nearest_rsqrt(float a) {
  if (!(a > 0) || std::isinf(a)) return 1 / std::sqrt(a);
  return static_cast<float>(1 / std::sqrt(static_cast<long double>(a)));
}

#define SIMT_EXACT(Name, wrapper, model)                                                                \
  struct Name {                                                                                         \
    static SIMT_DEV float apply(float a, float b, float c) { return wrapper; }                          \
    static float wanted([[maybe_unused]] float a, [[maybe_unused]] float b, [[maybe_unused]] float c) { \
      return model;                                                                                     \
    }                                                                                                   \
  };
#define SIMT_UNUSED(x) static_cast<void>(x)
SIMT_EXACT(Add, (SIMT_UNUSED(c), __fadd_rn(a, b)), a + b)
SIMT_EXACT(Sub, (SIMT_UNUSED(c), __fsub_rn(a, b)), a - b)
SIMT_EXACT(Mul, (SIMT_UNUSED(c), __fmul_rn(a, b)), a* b)
SIMT_EXACT(Div, (SIMT_UNUSED(c), __fdiv_rn(a, b)), a / b)
SIMT_EXACT(Fma, __fmaf_rn(a, b, c), std::fma(a, b, c))
SIMT_EXACT(Rcp, (SIMT_UNUSED(b), SIMT_UNUSED(c), __frcp_rn(a)), 1.0f / a)
SIMT_EXACT(FrsqrtRn, (SIMT_UNUSED(b), SIMT_UNUSED(c), __frsqrt_rn(a)), nearest_rsqrt(a))
SIMT_EXACT(Sqrt, (SIMT_UNUSED(b), SIMT_UNUSED(c), __fsqrt_rn(a)), std::sqrt(a))
SIMT_EXACT(Saturate, (SIMT_UNUSED(b), SIMT_UNUSED(c), __saturatef(a)), !(a > 0) ? 0.0f : a > 1 ? 1.0f : a)
SIMT_EXACT(IntBits, (SIMT_UNUSED(b), SIMT_UNUSED(c), __int_as_float(__float_as_int(a) ^ 1)),
           bits_as<float>(bits_as<int>(a) ^ 1))
SIMT_EXACT(UintBits, (SIMT_UNUSED(b), SIMT_UNUSED(c), __uint_as_float(__float_as_uint(a) ^ 1)),
           bits_as<float>(bits_as<unsigned>(a) ^ 1))
#undef SIMT_EXACT
#undef SIMT_UNUSED

template <class Function>
void exact_test(Check& check) {
  std::vector<float> a, b, c;  // every pair of edges, then any bits
  const std::vector<float> edges = edge_floats();
  for (const float x : edges) {
    for (const float y : edges) {
      a.push_back(x);
      b.push_back(y);
      c.push_back(edges[a.size() % edges.size()]);
    }
  }
  unsigned seed = 4;
  for (std::vector<float>* operand : {&a, &b, &c}) {
    const std::vector<float> any = any_floats(kCount, seed++);
    operand->insert(operand->end(), any.begin(), any.end());
  }
  const std::vector<float> got = map<Function, float>(a, b, c);
  for (std::size_t i = 0; i < a.size(); ++i) {
    check.equal(got[i], Function::wanted(a[i], b[i], c[i]), [&] { return operands("a", a[i], "b", b[i], "c", c[i]); });
  }
}

// ---- tf32

struct ToTf32 {
  static SIMT_DEV std::uint32_t apply(float x) { return to_tf32(x); }
};
void tf32_test(Check& check) {
  std::vector<float> x = any_floats(kCount, 7);
  for (const std::uint32_t low : {0x0FFFu, 0x1000u, 0x1001u, 0x1FFFu}) {  // about a tie
    for (std::uint32_t high = 0x3F800000; high < 0x3F900000; high += 0x2000) x.push_back(bits_as<float>(high | low));
  }
  const std::vector<std::uint32_t> got = map<ToTf32, std::uint32_t>(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto got_value = static_cast<float>(decode(got[i] >> 13, kTf32));
    const auto wanted = static_cast<float>(decode(encode(x[i], kTf32, Rounding::kTiesAway), kTf32));
    // The lowest 13 bits are not read. Beyond the largest tf32: infinity; an infinity stays one.
    check.equal(got_value, std::isinf(x[i]) ? x[i] : wanted, [&] { return operands("x", x[i]); });
  }
}

}  // namespace

std::vector<Test> math_tests() {
  return {{"math.__expf", approximate_test<Exp>, "ex2.approx.f32"},
          {"math.__exp10f", approximate_test<Exp10>, "ex2.approx.f32"},
          {"math.__logf", approximate_test<Log>, "lg2.approx.f32"},
          {"math.__log2f", approximate_test<Log2>, "lg2.approx.f32"},
          {"math.__log10f", approximate_test<Log10>, "lg2.approx.f32"},
          {"math.__sinf", approximate_test<Sin>, "sin.approx.f32"},
          {"math.__cosf", approximate_test<Cos>, "cos.approx.f32"},
          {"math.__powf", powf_test, "lg2.approx.f32, ex2.approx.f32"},
          {"math.rsqrtf", approximate_test<Rsqrt>, "rsqrt.approx.f32"},
          {"math.fast_exp2", approximate_test<FastExp2>, "ex2.approx.ftz.f32"},
          {"math.fast_log2", approximate_test<FastLog2>, "lg2.approx.ftz.f32"},
          {"math.fast_rsqrt", approximate_test<FastRsqrt>, "rsqrt.approx.ftz.f32"},
          {"math.fast_rcp", approximate_test<FastRcp>, "rcp.approx.ftz.f32"},
          {"math.fast_tanh", approximate_test<FastTanh>, "tanh.approx.f32"},
          {"math.__fdividef", fdividef_test, "div.approx.f32"},
          {"math.__fadd_rn", exact_test<Add>, "add.rn.f32"},
          {"math.__fsub_rn", exact_test<Sub>, "sub.rn.f32"},
          {"math.__fmul_rn", exact_test<Mul>, "mul.rn.f32"},
          {"math.__fdiv_rn", exact_test<Div>, "div.rn.f32"},
          {"math.__fmaf_rn", exact_test<Fma>, "fma.rn.f32"},
          {"math.__frcp_rn", exact_test<Rcp>, "rcp.rn.f32"},
          {"math.__fsqrt_rn", exact_test<Sqrt>, "sqrt.rn.f32"},
          {"math.__frsqrt_rn", exact_test<FrsqrtRn>, "rsqrt.approx.ftz.f32, fma.rn.f32"},
          {"math.__saturatef", exact_test<Saturate>, "cvt.sat.f32.f32"},
          {"math.__int_as_float", exact_test<IntBits>, "mov.b32"},
          {"math.__float_as_int", exact_test<IntBits>, "mov.b32"},
          {"math.__uint_as_float", exact_test<UintBits>, "mov.b32"},
          {"math.__float_as_uint", exact_test<UintBits>, "mov.b32"},
          {"math.to_tf32", tf32_test, "cvt.rna.tf32.f32"}};
}

}  // namespace simt::selftest
