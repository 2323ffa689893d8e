// Approximate arithmetic within its documented error, exact arithmetic to the bit. math_host.h names the sources.
#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"
#include "cuda/simt/selftest/float_format.h"
#include "cuda/simt/selftest/operands.h"

namespace simt::selftest {
namespace {

constexpr std::size_t kCount = 4096;
constexpr FloatFormat kFloat{8, 23, true};

double ulps(double n, double y) { return n * ulp(y, kFloat); }

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
SIMT_APPROXIMATE(FastExp2, fast_exp2, -120, 120, std::exp2(x), 0x1p-22 * y,
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
    const auto wanted = static_cast<float>(decode(encode(x[i], kTf32, Ties::kAwayFromZero), kTf32));
    // The lowest 13 bits are not read. Beyond the largest tf32: infinity; an infinity stays one.
    check.equal(got_value, std::isinf(x[i]) ? x[i] : wanted, [&] { return operands("x", x[i]); });
  }
}

}  // namespace

std::vector<Test> math_tests() {
  return {{"math.expf", approximate_test<Exp>},
          {"math.exp10f", approximate_test<Exp10>},
          {"math.logf", approximate_test<Log>},
          {"math.log2f", approximate_test<Log2>},
          {"math.log10f", approximate_test<Log10>},
          {"math.sinf", approximate_test<Sin>},
          {"math.cosf", approximate_test<Cos>},
          {"math.rsqrtf", approximate_test<Rsqrt>},
          {"math.fast_exp2", approximate_test<FastExp2>},
          {"math.fast_log2", approximate_test<FastLog2>},
          {"math.fast_rsqrt", approximate_test<FastRsqrt>},
          {"math.fast_rcp", approximate_test<FastRcp>},
          {"math.fast_tanh", approximate_test<FastTanh>},
          {"math.fdividef", fdividef_test},
          {"math.fadd_rn", exact_test<Add>},
          {"math.fsub_rn", exact_test<Sub>},
          {"math.fmul_rn", exact_test<Mul>},
          {"math.fdiv_rn", exact_test<Div>},
          {"math.fmaf_rn", exact_test<Fma>},
          {"math.frcp_rn", exact_test<Rcp>},
          {"math.fsqrt_rn", exact_test<Sqrt>},
          {"math.saturatef", exact_test<Saturate>},
          {"math.int_as_float", exact_test<IntBits>},
          {"math.uint_as_float", exact_test<UintBits>},
          {"math.to_tf32", tf32_test}};
}

}  // namespace simt::selftest
