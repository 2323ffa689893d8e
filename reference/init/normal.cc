#include "reference/init/normal.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "reference/elementary.h"
#include "reference/init/unit_interval.h"

namespace assay::reference {
namespace {

constexpr std::size_t kHalf = 8;  // of a block

}  // namespace

// Cephes logf (Moshier): x = m 2^e with m in [sqrt(1/2), sqrt(2)), a polynomial of degree 8 in m - 1.
float cephes_log(float x) {
  constexpr float kPolynomial[] = {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                                   -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f};
  int exponent = 0;
  float m = std::frexp(x, &exponent);
  if (m < 0.707106781186547524f) {
    exponent -= 1;
    m = (m - 1.0f) + m;
  } else {
    m = m - 1.0f;
  }
  const float e = static_cast<float>(exponent), z = m * m;
  float y = 7.0376836292e-2f;
  for (const float p : kPolynomial) y = std::fma(y, m, p);
  y = std::fma(y * m, z, e * -2.12194440e-4f);
  y = std::fma(z, -0.5f, y);
  return std::fma(e, 0.693359375f, m + y);
}

// Cephes sinf and cosf: x minus a multiple of pi/4 held in three parts, then a polynomial for each function.
SinCos cephes_sincos(float x) {
  const int octant = (static_cast<int>(x * 1.27323954473516f) + 1) & ~1;
  const float j = static_cast<float>(octant);
  float t = std::fma(j, -0.78515625f, x);
  t = std::fma(j, -2.4187564849853515625e-4f, t);
  t = std::fma(j, -3.77489497744594108e-8f, t);
  const float z = t * t;
  float c = std::fma(2.443315711809948e-5f, z, -1.388731625493765e-3f);
  c = std::fma(c, z, 4.166664568298827e-2f);
  c = std::fma(c * z, z, -0.5f * z) + 1.0f;
  float s = std::fma(-1.9515295891e-4f, z, 8.3321608736e-3f);
  s = std::fma(s, z, -1.6666654611e-1f);
  s = std::fma(s * z, t, t);
  if (octant & 2) std::swap(s, c);
  return {(octant & 4) ? -s : s, ((octant - 2) & 4) ? c : -c};
}

void normal_block(std::span<float, 16> block, float mean, float std) {
  constexpr float kTwoPi = 2 * std::numbers::pi_v<float>;
  for (std::size_t j = 0; j < kHalf; ++j) {
    const float u1 = 1.0f - block[j], u2 = block[j + kHalf];
    const float radius = std::sqrt(-2.0f * cephes_log(u1));
    const auto [sin, cos] = cephes_sincos(kTwoPi * u2);
    block[j] = std::fma(radius * cos, std, mean);
    block[j + kHalf] = std::fma(radius * sin, std, mean);
  }
}

void normal_block(std::span<double, 16> block, double mean, double std) {
  for (std::size_t j = 0; j < kHalf; ++j) {
    const double u1 = 1.0 - block[j], u2 = block[j + kHalf];
    const double radius = std::sqrt(-2.0 * std::log(u1)), angle = 2.0 * std::numbers::pi * u2;
    block[j] = std::fma(radius * std::cos(angle), std, mean);
    block[j + kHalf] = std::fma(radius * std::sin(angle), std, mean);
  }
}

void normal_block_every_step_bfloat16(std::span<float, 16> block, double mean, double std) {
  const auto rnd = [](double x) { return round_to_bfloat16(static_cast<float>(x)); };  // as PyTorch: through float32
  const float mu = rnd(mean), sigma = rnd(std);
  for (std::size_t j = 0; j < kHalf; ++j) {
    const float u1 = rnd(1.0f - block[j]), u2 = block[j + kHalf];
    const float radius = rnd(std::sqrt(rnd(-2.0f * rnd(std::log(double{u1})))));
    const float angle = rnd(2.0 * std::numbers::pi * u2);
    block[j] = rnd(rnd(rnd(radius * rnd(std::cos(double{angle}))) * sigma) + mu);
    block[j + kHalf] = rnd(rnd(rnd(radius * rnd(std::sin(double{angle}))) * sigma) + mu);
  }
}

NormalPair normal_pair(double u1, double u2) {
  const double radius = std::sqrt(-2.0 * std::log1p(-u2)), angle = 2.0 * std::numbers::pi * u1;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

NormalPair cuda_normal_pair(std::uint32_t word0, std::uint32_t word1) {
  constexpr float kAngleStep = 1.4629181e-9f;  // 2 pi 2^-32
  const float u = cuda_unit_float(word0), angle = std::fma(static_cast<float>(word1), kAngleStep, kAngleStep / 2);
  const double radius = std::sqrt(-2.0 * std::log(double{u}));
  return {radius * std::sin(double{angle}), radius * std::cos(double{angle})};
}

NormalPair cuda_normal_pair(std::uint32_t word0, std::uint32_t word1, std::uint32_t word2, std::uint32_t word3) {
  const double radius = std::sqrt(-2.0 * std::log(cuda_unit_double(word0, word1)));
  const double half_turns = 2.0 * cuda_unit_double(word2, word3);
  return {radius * std::sin(std::numbers::pi * half_turns), radius * std::cos(std::numbers::pi * half_turns)};
}

}  // namespace assay::reference
