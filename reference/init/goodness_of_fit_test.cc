#include "reference/init/goodness_of_fit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "reference/init/mt19937.h"
#include "reference/init/uniform.h"

namespace assay::reference {
namespace {

constexpr std::size_t kMany = 1 << 17;

std::vector<float> normals(std::uint64_t seed, std::size_t n, double std, ModelDtype dtype = ModelDtype::float32) {
  std::vector<float> values(n);
  CpuGenerator(seed).normal(values, dtype, 0, std);
  return values;
}
std::vector<float> uniforms(std::uint64_t seed, std::size_t n, double bound, ModelDtype dtype = ModelDtype::float32) {
  std::vector<float> values(n);
  CpuGenerator(seed).uniform(values, dtype, -bound, bound);
  return values;
}

// Kolmogorov's distribution: the tabulated critical values, and for n = 20 the exact ones (Miller 1956).
TEST(KolmogorovPValue, Tables) {
  // The correction for small n still shows at a million: 4 t^2 p 0.12 / 1000 is 2e-5 or less.
  EXPECT_NEAR(kolmogorov_p_value(1.2238 / 1000, 1e6), 0.10, 1e-4);
  EXPECT_NEAR(kolmogorov_p_value(1.3581 / 1000, 1e6), 0.05, 1e-4);
  EXPECT_NEAR(kolmogorov_p_value(1.6276 / 1000, 1e6), 0.01, 2e-5);
  EXPECT_NEAR(kolmogorov_p_value(0.29408, 20), 0.05, 5e-4);
  EXPECT_NEAR(kolmogorov_p_value(0.35241, 20), 0.01, 2e-4);
  EXPECT_EQ(kolmogorov_p_value(0, 100), 1);
}

// The promised rate: 5 % asked for, so of 4000 right samples about 200 are refused. The lag test's sum over lags
// makes it fewer; below 100 the tests would be blunter than they claim. 4 sigma = 55.
TEST(GoodnessOfFit, FalseAlarmRateIsTheOneAskedFor) {
  for (const ModelDtype dtype : {ModelDtype::float32, ModelDtype::bfloat16}) {
    int refused = 0;
    for (std::uint64_t seed = 0; seed < 4000; ++seed) {
      const FitQuestion question = {
          .distribution = normal_distribution(0, 0.02), .dtype = dtype, .false_alarm_rate = 0.05};
      refused += !goodness_of_fit(normals(seed, 300, 0.02, dtype), question).accepted;
    }
    EXPECT_GT(refused, 100) << name(dtype);
    EXPECT_LT(refused, 255) << name(dtype);
  }
}

// Rounding to bfloat16 puts many values on few points; a comparison at the points would refuse these.
TEST(GoodnessOfFit, AcceptsLargeRoundedSamples) {
  for (const ModelDtype dtype : {ModelDtype::float32, ModelDtype::bfloat16}) {
    constexpr std::size_t kHuge = 1 << 22;
    const FitAnswer normal =
        goodness_of_fit(normals(1, kHuge, 0.02, dtype), {.distribution = normal_distribution(0, 0.02), .dtype = dtype});
    EXPECT_TRUE(normal.accepted) << normal.text;
    const FitAnswer uniform =
        goodness_of_fit(uniforms(1, kHuge, 0.0193, dtype),
                        {.distribution = uniform_distribution(-0.0193, 0.0193, dtype), .dtype = dtype});
    EXPECT_TRUE(uniform.accepted) << uniform.text;
  }
}

struct Mistake {
  const char* name;
  std::function<std::vector<float>()> sample;
  Distribution claimed;
};

TEST(GoodnessOfFit, CatchesMistakes) {
  const Mistake mistakes[] = {
      {"std 2 % too large", [] { return normals(1, kMany, 0.0204); }, normal_distribution(0, 0.02)},
      {"mean off by 2 % of std",
       [] {
         std::vector<float> v = normals(1, kMany, 0.02);
         for (float& x : v) x += 0.0004f;
         return v;
       },
       normal_distribution(0, 0.02)},
      {"bound 2 % too small", [] { return uniforms(1, kMany, 0.098); }, uniform_distribution(-0.1, 0.1)},
      {"bound too large", [] { return uniforms(1, kMany, 0.1001); }, uniform_distribution(-0.1, 0.1)},
      {"uniform for normal, of one variance", [] { return uniforms(1, kMany, 0.02 * std::sqrt(3.0)); },
       normal_distribution(0, 0.02)},
      {"normal for uniform, of one variance", [] { return normals(1, kMany, 0.1 / std::sqrt(3.0)); },
       uniform_distribution(-0.1, 0.1)},
      {"truncated at 2 std",
       [] {
         std::vector<float> v = normals(1, kMany, 0.02);
         std::erase_if(v, [](float x) { return std::abs(x) > 0.04f; });
         return v;
       },
       normal_distribution(0, 0.02)},
      {"one half of the pairs' radius and angle swapped into |z|",
       [] {
         std::vector<float> v = normals(1, kMany, 0.02);
         for (std::size_t i = 0; i < v.size(); i += 8) v[i] = std::abs(v[i]);
         return v;
       },
       normal_distribution(0, 0.02)},
      {"one block's numbers in every block",
       [] {
         std::vector<float> v = normals(1, kMany, 0.02);
         for (std::size_t i = 8192; i < v.size(); ++i) v[i] = v[i % 8192];
         return v;
       },
       normal_distribution(0, 0.02)},
      {"every number twice",
       [] {
         std::vector<float> v = normals(1, kMany, 0.02);
         for (std::size_t i = 1; i < v.size(); i += 2) v[i] = v[i - 1];
         return v;
       },
       normal_distribution(0, 0.02)},
      {"sorted",
       [] {
         std::vector<float> v = uniforms(1, kMany, 0.1);
         std::ranges::sort(v);
         return v;
       },
       uniform_distribution(-0.1, 0.1)},
      {"never drawn", [] { return std::vector<float>(kMany, 0.0f); }, normal_distribution(0, 0.02)},
      {"one element never written",
       [] {
         std::vector<float> v = normals(1, kMany, 0.02);
         v[77] = std::nanf("");
         return v;
       },
       normal_distribution(0, 0.02)},
      {"8-bit uniforms",
       [] {
         std::vector<float> v(kMany);
         CpuGenerator(1, Bfloat16Draws::eight_bits).uniform(v, ModelDtype::bfloat16, -0.1, 0.1);
         return v;
       },
       uniform_distribution(-0.1, 0.1)},
  };
  for (const auto& [name, sample, claimed] : mistakes) {
    const FitAnswer answer = goodness_of_fit(sample(), {.distribution = claimed});
    EXPECT_FALSE(answer.accepted) << name << ": " << answer.text;
    EXPECT_NE(answer.text.find("refused"), std::string::npos) << answer.text;
  }
}

// The floor gathers all smaller steps on one value.
TEST(GoodnessOfFit, DtBiasWithItsFloor) {
  for (const TimeStepRange range : {TimeStepRange{1e-3, 0.1, 1e-4}, TimeStepRange{1e-3, 0.1, 0.01}}) {
    std::vector<float> values(kMany);
    CpuGenerator(1).uniform(values, ModelDtype::float32, 0, 1);
    std::vector<float> linear = values;
    for (float& v : values) v = dt_bias_from_uniform(v, range);
    const FitQuestion question = {.distribution = dt_bias_distribution(range), .slack_ulps = 4};
    EXPECT_TRUE(goodness_of_fit(values, question).accepted) << goodness_of_fit(values, question).text;
    // Steps uniform instead of log-uniform.
    for (float& v : linear) v = std::log(std::expm1(1e-3f + v * 0.099f));
    EXPECT_FALSE(goodness_of_fit(linear, question).accepted);
  }
}

TEST(GoodnessOfFit, Constants) {
  std::vector<float> ones(1000, 1.0f);
  EXPECT_TRUE(goodness_of_fit(ones, {.distribution = constant_distribution(1)}).accepted);
  ones[3] = std::nextafter(1.0f, 2.0f);
  EXPECT_FALSE(goodness_of_fit(ones, {.distribution = constant_distribution(1)}).accepted);
  EXPECT_TRUE(goodness_of_fit(std::vector<float>(9, 0.0f), {.distribution = normal_distribution(0, 0)}).accepted);
  EXPECT_THROW(goodness_of_fit({}, {.distribution = constant_distribution(1)}), std::invalid_argument);
}

}  // namespace
}  // namespace assay::reference
