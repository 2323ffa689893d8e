// Operands: edges first, then random ones.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace simt::selftest {

using Random = std::mt19937_64;

inline std::vector<float> edge_floats() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return {0.0f,
          -0.0f,
          1.0f,
          -1.0f,
          0.5f,
          2.0f,
          -3.0f,
          0x1p-126f,
          -0x1p-126f,
          0x1p-149f,
          -0x1p-149f,
          0x1p-130f,
          0x1p126f,
          0x1p127f,
          0x1p-14f,
          0x1p-24f,
          65504.0f,
          65520.0f,
          448.0f,
          464.0f,
          57344.0f,
          61440.0f,
          kInfinity,
          -kInfinity,
          std::numeric_limits<float>::max(),
          std::numeric_limits<float>::lowest(),
          std::numeric_limits<float>::quiet_NaN()};
}
// Edges, then any bits.
inline std::vector<float> any_floats(std::size_t count, unsigned seed) {
  std::vector<float> x = edge_floats();
  for (Random random(seed); x.size() < count;) {
    const auto bits = static_cast<std::uint32_t>(random());
    float value;
    std::memcpy(&value, &bits, sizeof value);
    x.push_back(value);
  }
  return x;
}
// Uniform in [low, high].
inline std::vector<float> floats_between(float low, float high, std::size_t count, unsigned seed) {
  std::vector<float> x{low, high};
  Random random(seed);
  for (std::uniform_real_distribution<float> uniform(low, high); x.size() < count;) x.push_back(uniform(random));
  return x;
}
// Edges of T, then any bits.
template <class T>
std::vector<T> any_integers(std::size_t count, unsigned seed) {
  using Limits = std::numeric_limits<T>;
  std::vector<T> x{0, 1, Limits::max(), Limits::min(), static_cast<T>(-1), static_cast<T>(Limits::max() - 1), 2};
  for (Random random(seed); x.size() < count;) x.push_back(static_cast<T>(random()));
  return x;
}
// In another order, so that edges meet edges and random values.
template <class T>
std::vector<T> shuffled(std::vector<T> x, unsigned seed) {
  Random random(seed);
  for (std::size_t i = x.size(); i > 1; --i) std::swap(x[i - 1], x[random() % i]);
  return x;
}

}  // namespace simt::selftest
