// The documented error of every device function holds, and hostile arithmetic makes use of it.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "cuda/simt/simt.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

struct Function {
  const char* name;
  void (*kernel)(const float* x, float* y, int n);
  double (*exact)(double x);
  float low, high;                                 // of the arguments
  std::function<double(float x, double y)> error;  // documented bound
};

template <auto kFunction>
__global__ void map_kernel(const float* x, float* y, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = kFunction(x[i]);
}

double ulp(double y) { return std::ldexp(1.0, std::max(std::ilogb(y), -126) - 23); }
// n ulp from the nearest float, which is not y.
double ulps_of(double n, double y) {
  const double nearest = static_cast<float>(y);
  return n * ulp(nearest) + std::abs(nearest - y);
}
auto ulps(double n) {
  return [n](float, double y) { return ulps_of(n, y); };
}
auto relative(double r) {
  return [r](float, double y) { return r * std::abs(y); };
}

// libm's names through functions: their addresses are those of the host's library otherwise.
float call_expf(float x) { return expf(x); }
float call_exp2f(float x) { return exp2f(x); }
float call_expm1f(float x) { return expm1f(x); }
float call_logf(float x) { return logf(x); }
float call_log2f(float x) { return log2f(x); }
float call_log10f(float x) { return log10f(x); }
float call_log1pf(float x) { return log1pf(x); }
float call_tanhf(float x) { return tanhf(x); }
float call_sinf(float x) { return sinf(x); }
float call_cosf(float x) { return cosf(x); }
float call_erff(float x) { return erff(x); }
double exact_rsqrt(double x) { return 1 / std::sqrt(x); }
double exact_rcp(double x) { return 1 / x; }

const Function kFunctions[] = {
    {"expf", map_kernel<call_expf>, std::exp, -80, 80, ulps(2)},
    {"exp2f", map_kernel<call_exp2f>, std::exp2, -120, 120, ulps(2)},
    {"expm1f", map_kernel<call_expm1f>, std::expm1, -5, 5, ulps(1)},
    {"logf", map_kernel<call_logf>, std::log, 1e-6f, 1e3f, ulps(1)},
    {"log2f", map_kernel<call_log2f>, std::log2, 1e-6f, 1e3f, ulps(1)},
    {"log10f", map_kernel<call_log10f>, std::log10, 1e-6f, 1e3f, ulps(2)},
    {"log1pf", map_kernel<call_log1pf>, std::log1p, -0.9f, 1e3f, ulps(1)},
    {"tanhf", map_kernel<call_tanhf>, std::tanh, -5, 5, ulps(2)},
    {"sinf", map_kernel<call_sinf>, std::sin, -10, 10, ulps(2)},
    {"cosf", map_kernel<call_cosf>, std::cos, -10, 10, ulps(2)},
    {"erff", map_kernel<call_erff>, std::erf, -3, 3, ulps(2)},
    {"rsqrtf", map_kernel<rsqrtf>, exact_rsqrt, 1e-6f, 1e6f, ulps(2)},
    {"__expf", map_kernel<__expf>, std::exp, -80, 80,
     [](float x, double y) { return ulps_of(2 + std::floor(std::abs(1.173 * x)), y); }},
    {"__logf", map_kernel<__logf>, std::log, 1e-3f, 4,
     [](float x, double y) { return x >= 0.5f && x <= 2 ? std::exp2(-21.41) : ulps_of(3, y); }},
    {"__log2f", map_kernel<__log2f>, std::log2, 1e-3f, 4,
     [](float x, double y) { return x >= 0.5f && x <= 2 ? std::exp2(-22) : ulps_of(2, y); }},
    {"__sinf", map_kernel<__sinf>, std::sin, -3, 3, [](float, double) { return std::exp2(-21.41); }},
    {"__sinf to 2 pi", map_kernel<__sinf>, std::sin, 3.2f, 6.2f, [](float, double) { return std::exp2(-20.5); }},
    {"__sinf to 100 pi", map_kernel<__sinf>, std::sin, 6.3f, 314, [](float, double) { return std::exp2(-14.7); }},
    {"__cosf", map_kernel<__cosf>, std::cos, -3, 3, [](float, double) { return std::exp2(-21.19); }},
    {"ex2.approx", map_kernel<fast_exp2>, std::exp2, -120, 120, ulps(2)},
    {"lg2.approx", map_kernel<fast_log2>, std::log2, 1e-3f, 4,
     [](float x, double y) { return x > 0.5f && x < 2 ? std::exp2(-22) : std::exp2(-22) * std::abs(y); }},
    {"rsqrt.approx", map_kernel<fast_rsqrt>, exact_rsqrt, 1e-6f, 1e6f, relative(std::exp2(-22.9))},
    {"rcp.approx", map_kernel<fast_rcp>, exact_rcp, 1e-6f, 1e6f, ulps(1)},
    {"tanh.approx", map_kernel<fast_tanh>, std::tanh, -5, 5, relative(0x1p-11)},
};

std::vector<float> arguments(const Function& f) {
  std::vector<float> x(4096);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = f.low + (f.high - f.low) * static_cast<float>(i * 2654435761u % 4099) / 4099;
  }
  return x;
}
std::vector<float> evaluate(const Function& f, const std::vector<float>& x, std::size_t schedule) {
  set_schedule(schedule, 1);
  const Buffer<float> input(x), output(x.size());
  launch(f.kernel, {.grid = 32, .block = 128}, input, output, static_cast<int>(x.size()));
  set_schedule(0, 1);
  return output.host();
}

TEST(Math, NominalIsTheNearestFloatAndHostileTheFurthestThatIsDocumented) {
  for (const Function& f : kFunctions) {
    const auto x = arguments(f);
    const auto nominal = evaluate(f, x, 0), hostile = evaluate(f, x, 2);
    int above = 0, below = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = f.exact(x[i]), limit = f.error(x[i], exact);
      ASSERT_LE(std::abs(nominal[i] - exact), 0.500001 * ulp(exact)) << f.name << "(" << x[i] << ")";
      const double off = hostile[i] - exact;
      ASSERT_LE(std::abs(off), limit) << f.name << "(" << x[i] << ")";
      above += off > limit - 1.01 * ulp(exact);
      below += -off > limit - 1.01 * ulp(exact);
    }
    // |sin|, |cos|, |tanh|, |erf| <= 1 and zeros cost a few.
    EXPECT_GT(above, 1200) << f.name;
    EXPECT_GT(below, 1200) << f.name;
    EXPECT_GT(above + below, 3500) << f.name;
  }
}

TEST(Math, SchedulesOfOneArithmeticAgreeBitForBit) {
  for (const Function& f : kFunctions) {
    const auto x = arguments(f);
    EXPECT_EQ(evaluate(f, x, 0), evaluate(f, x, 1)) << f.name;
    EXPECT_EQ(evaluate(f, x, 2), evaluate(f, x, 3)) << f.name;
  }
}

__global__ void special_kernel(float* y) {
  const float infinity = INFINITY;
  const float values[] = {expf(0.0f),      __expf(0.0f),    exp2f(0.0f),       expf(-infinity), logf(1.0f),
                          tanhf(infinity), tanhf(0.0f),     rsqrtf(infinity),  cosf(0.0f),      powf(3.0f, 0.0f),
                          fast_exp2(0.0f), __expf(-200.0f), fast_exp2(-140.0f)};
  for (int i = 0; i < 13; ++i) y[i] = values[i];
}

TEST(Math, DocumentedExactResultsStayExact) {
  const std::vector<float> expected{1, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0, 0};
  const Buffer<float> y(13);
  for_each_schedule([&] {
    launch(special_kernel, {.grid = 1, .block = 1}, y);
    EXPECT_EQ(y.host(), expected);
  });
}

TEST(Math, OutsideOfKernelsLibmNamesAreNominal) {
  set_schedule(2, 1);
  EXPECT_EQ(expf(1.0f), static_cast<float>(std::exp(1.0)));
  EXPECT_EQ(tanhf(0.3f), static_cast<float>(std::tanh(static_cast<double>(0.3f))));
  set_schedule(0, 1);
}

}  // namespace
}  // namespace simt::testing
