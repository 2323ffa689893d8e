// PyTorch's CPU generator, bit for bit: mt19937 and the rules that turn its words into tensors.
//
// Uniforms take one word an element (two for float64). Normals of 16 elements or more come in blocks of 16 (normal.h);
// when 16 does not divide the count, the last 16 elements are drawn once more. Fewer normals come one by one in double,
// and of each pair the second is kept for the next such call, also across tensors, until the generator is seeded.
// Zero elements draw nothing. The functions stand for PyTorch's AVX2 and AVX512 builds.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>

#include "reference/init/random_source.h"

namespace assay::reference {

// How a bfloat16 tensor is drawn.
enum class Bfloat16Draws {
  rounded_float32,  // PyTorch 2.15: as float32, rounded once; normals block by block
  eight_bits,       // before: 8-bit uniforms, every step of a normal rounded
};

class CpuGenerator final : public RandomSource {
 public:
  explicit CpuGenerator(std::uint64_t seed, Bfloat16Draws bfloat16_draws = Bfloat16Draws::rounded_float32)
      : bfloat16_draws_(bfloat16_draws) {
    manual_seed(seed);
  }
  void manual_seed(std::uint64_t seed);  // the low 32 bits of it
  Device device() const override { return Device::cpu; }

  std::uint32_t random() { return static_cast<std::uint32_t>(engine_()); }
  std::uint64_t random64();  // two words, the first one high

  void uniform(std::span<float> values, ModelDtype dtype, double low, double high) override;
  void uniform(std::span<double> values, double low, double high);
  void normal(std::span<float> values, ModelDtype dtype, double mean, double std) override;
  void normal(std::span<double> values, double mean, double std);
  // The one-by-one rule, which non-contiguous tensors of any size follow, too, in memory order.
  void normal_one_by_one(std::span<float> values, ModelDtype dtype, double mean, double std);

 private:
  double next_standard_normal();
  void normal_float32(std::span<float> values, float mean, float std);
  void normal_bfloat16(std::span<float> values, float mean, float std);
  void normal_eight_bits(std::span<float> values, double mean, double std);

  std::mt19937 engine_;
  std::optional<double> kept_normal_;
  Bfloat16Draws bfloat16_draws_;
};

}  // namespace assay::reference
