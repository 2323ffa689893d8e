#include "reference/init/mt19937.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "reference/init/uniform.h"
#include "reference/testing/fixture.h"

namespace assay::reference {
namespace {

constexpr ModelDtype kFloat32 = ModelDtype::float32, kBfloat16 = ModelDtype::bfloat16;

std::vector<float> uniforms(CpuGenerator& generator, std::size_t n, ModelDtype dtype = kFloat32) {
  std::vector<float> values(n);
  generator.uniform(values, dtype, 0, 1);
  return values;
}
std::vector<float> normals(CpuGenerator& generator, std::size_t n, ModelDtype dtype = kFloat32) {
  std::vector<float> values(n);
  generator.normal(values, dtype, 0, 1);
  return values;
}

// How many words a draw takes: the next word of `generator` is found in a fresh stream.
int words_taken(CpuGenerator generator, std::uint64_t seed) {
  const std::uint32_t next = generator.random();
  CpuGenerator fresh(seed);
  int words = 0;
  while (fresh.random() != next && words < 10000) ++words;
  return words;
}

// The numbers that PyTorch is publicly known to print.
TEST(CpuGenerator, KnownUniforms) {
  CpuGenerator zero(0), answer(42);
  const std::vector<float> a = uniforms(zero, 3), b = uniforms(answer, 3);
  // Seven digits of numbers that lie 2^-24 apart.
  const float want_a[] = {0.4962566f, 0.7682218f, 0.0884774f}, want_b[] = {0.8822693f, 0.9150040f, 0.3828638f};
  for (int i = 0; i < 3; ++i) {
    EXPECT_NEAR(a[i], want_a[i], 1.1e-7) << i;
    EXPECT_NEAR(b[i], want_b[i], 1.1e-7) << i;
  }
}

TEST(CpuGenerator, KnownNormals) {
  CpuGenerator few(0), many(0);
  const std::vector<float> a = normals(few, 4), b = normals(many, 16);
  const float want_a[] = {1.5410f, -0.2934f, -2.1788f, 0.5684f};
  const float want_b[] = {-1.1258f, -1.1524f, -0.2506f, -0.4339f, 0.8487f, 0.6920f, -0.3160f, -2.1152f,
                          0.3223f,  -1.2633f, 0.3500f,  0.3081f,  0.1198f, 1.2377f, 1.1168f,  -0.2473f};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(a[i], want_a[i], 5e-5) << i;
  for (int i = 0; i < 16; ++i) EXPECT_NEAR(b[i], want_b[i], 5e-5) << i;
}

// One seeding, then every tensor of the recording in its order, bit for bit.
TEST(CpuGenerator, RecordedDrawsBitForBit) {
  const testing::Fixture fixture = testing::load_fixture("rng_cpu");
  CpuGenerator generator(fixture.attributes.at("seed").get<std::uint64_t>());
  // The arguments of the draws that are not uniform_(0, 1) or normal_(0, 1): (low, high) or (mean, std).
  const std::map<std::string, std::pair<double, double>> arguments = {
      {"uniform_range", {-0.25, 0.25}}, {"uniform_bf16", {-0.25, 0.25}}, {"normal_bf16_large", {0, 0.02}}};
  std::size_t compared = 0;
  for (const testing::FixtureTensor& want : fixture.tensors) {
    const bool is_uniform = want.name.starts_with("uniform");
    const auto found = arguments.find(want.name);
    const auto [p, q] = found == arguments.end() ? std::pair(0.0, 1.0) : found->second;
    std::vector<double> got(want.data.size()), wanted = want.data;
    if (want.dtype == "float64") {
      is_uniform ? generator.uniform(got, p, q) : generator.normal(got, p, q);
    } else {
      const ModelDtype dtype = want.dtype == "bfloat16" ? kBfloat16 : kFloat32;
      std::vector<float> values(got.size());
      is_uniform ? generator.uniform(values, dtype, p, q) : generator.normal(values, dtype, p, q);
      got.assign(values.begin(), values.end());
      for (double& w : wanted) w = static_cast<float>(w);  // the file has the shortest decimals that round to it
    }
    for (std::size_t i = 0; i < got.size(); ++i, ++compared) EXPECT_EQ(got[i], wanted[i]) << want.name << " " << i;
  }
  EXPECT_EQ(compared, 208u);
}

TEST(CpuGenerator, TakesTheWordsPyTorchTakes) {
  constexpr std::uint64_t kSeed = 7;
  const auto taken = [](auto draw, Bfloat16Draws rule = Bfloat16Draws::rounded_float32) {
    CpuGenerator generator(kSeed, rule);
    draw(generator);
    return words_taken(generator, kSeed);
  };
  EXPECT_EQ(taken([](CpuGenerator& g) { uniforms(g, 5); }), 5);
  EXPECT_EQ(taken([](CpuGenerator& g) { uniforms(g, 0), normals(g, 0), normals(g, 0, kBfloat16); }), 0);
  EXPECT_EQ(taken([](CpuGenerator& g) { normals(g, 32); }), 32);
  EXPECT_EQ(taken([](CpuGenerator& g) { normals(g, 37); }), 37 + 16);
  EXPECT_EQ(taken([](CpuGenerator& g) { normals(g, 37, kBfloat16); }), 32 + 16);
  EXPECT_EQ(taken([](CpuGenerator& g) { normals(g, 37, kBfloat16); }, Bfloat16Draws::eight_bits), 37 + 16);
  EXPECT_EQ(taken([](CpuGenerator& g) { normals(g, 7); }), 16);  // four pairs of 64-bit uniforms
  EXPECT_EQ(taken([](CpuGenerator& g) { normals(g, 7), normals(g, 1, kBfloat16); }), 16);  // the eighth is kept
}

TEST(CpuGenerator, KeptNormalOutlivesLargeDrawsAndDiesBySeeding) {
  CpuGenerator straight(3), interrupted(3);
  const std::vector<float> two = normals(straight, 2);
  EXPECT_EQ(normals(interrupted, 1)[0], two[0]);
  normals(interrupted, 64);
  uniforms(interrupted, 5);
  EXPECT_EQ(normals(interrupted, 1)[0], two[1]);
  normals(interrupted, 1);
  interrupted.manual_seed(3);
  EXPECT_EQ(normals(interrupted, 1)[0], two[0]);
}

TEST(CpuGenerator, SeedsByTheLow32Bits) {
  CpuGenerator low(5), wide(5 + (std::uint64_t{9} << 32)), other(6);
  const std::uint32_t word = low.random();
  EXPECT_EQ(wide.random(), word);
  EXPECT_NE(other.random(), word);
}

// The fused multiply-add is part of the rule: near zero an unfused one is off by much more than an ulp.
TEST(CpuGenerator, UniformRangeIsFused) {
  CpuGenerator fused(11), units(11);
  constexpr double kBound = 0.1;
  std::vector<float> got(4096);
  fused.uniform(got, kFloat32, -kBound, kBound);
  int differ = 0;
  for (const float value : got) {
    const float u = static_cast<float>(units.random() & 0xFFFFFF) * 0x1p-24f, low = -0.1f, width = 0.1f - low;
    EXPECT_EQ(value,
              static_cast<float>(double{u} * double{width} + double{low}));  // exact product and sum, one rounding
    differ += value != u * width + low;
  }
  EXPECT_GT(differ, 1000);
}

TEST(UniformFromUnit, IntervalStaysHalfOpen) {
  const float last = 1 - 0x1p-24f;
  const UniformRange range = uniform_range(-0.1, 0.1, kFloat32);
  EXPECT_EQ(uniform_from_unit(last, range, kBfloat16), round_to_bfloat16(-0.1f));
  EXPECT_EQ(uniform_from_unit(1.0f, range, kFloat32), -0.1f);  // curand's unit interval is closed above
  EXPECT_LT(uniform_from_unit(last, range, kFloat32), 0.1f);
  EXPECT_EQ(uniform_from_unit(1.0, -2.0, 3.0), -2.0);
}

TEST(CpuGenerator, OlderBfloat16UsesEightBits) {
  CpuGenerator older(1, Bfloat16Draws::eight_bits), words(1);
  for (const float value : uniforms(older, 1000, kBfloat16))
    EXPECT_EQ(value, static_cast<float>(words.random() & 255) / 256);
  std::vector<float> z(4096);
  older.normal(z, kBfloat16, 0, 1);
  double sum = 0, squares = 0;
  for (const float v : z) {
    EXPECT_EQ(v, round_to_bfloat16(v));
    sum += v, squares += v * v;
  }
  // Standard errors are 1/64 and sqrt(2)/64; 8-bit uniforms cut the tails at sqrt(2 ln 256) = 3.3.
  EXPECT_NEAR(sum / 4096, 0, 5.0 / 64);
  EXPECT_NEAR(squares / 4096, 1, 5 * 1.414 / 64);
  EXPECT_LE(*std::max_element(z.begin(), z.end()), 3.35f);
}

TEST(CpuGenerator, RefusesFloat64IntoFloats) {
  CpuGenerator generator(0);
  std::vector<float> values(3);
  EXPECT_THROW(generator.uniform(values, ModelDtype::float64, 0, 1), std::invalid_argument);
  EXPECT_THROW(generator.normal(values, ModelDtype::float64, 0, 1), std::invalid_argument);
}

}  // namespace
}  // namespace assay::reference
