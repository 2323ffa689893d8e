#include "reference/init/mt19937.h"

#include <stdexcept>
#include <string>

#include "reference/init/normal.h"
#include "reference/init/uniform.h"
#include "reference/init/unit_interval.h"

namespace assay::reference {
namespace {

constexpr std::size_t kBlock = 16;

void require_drawable(ModelDtype dtype) {
  if (dtype == ModelDtype::float64)
    throw std::invalid_argument(
        "CpuGenerator: dtype float64 into floats; want float32 or bfloat16, or a span of double");
}

// Draws all, then turns them into normals block by block; a rest shares its block with elements before it, and that
// block is drawn once more.
template <class T, class Draw, class Transform>
void normal_by_blocks(std::span<T> values, Draw draw, Transform transform) {
  draw(values);
  for (std::size_t i = 0; i + kBlock <= values.size(); i += kBlock)
    transform(std::span<T, kBlock>(values.subspan(i, kBlock)));
  if (values.size() % kBlock != 0) {
    const std::span<T, kBlock> last(values.last(kBlock));
    draw(last);
    transform(last);
  }
}

}  // namespace

void CpuGenerator::manual_seed(std::uint64_t seed) {
  engine_.seed(static_cast<std::uint32_t>(seed));
  kept_normal_.reset();
}

std::uint64_t CpuGenerator::random64() {
  const std::uint64_t high = random();
  return high << 32 | random();
}

void CpuGenerator::uniform(std::span<float> values, ModelDtype dtype, double low, double high) {
  require_drawable(dtype);
  if (dtype == ModelDtype::bfloat16 && bfloat16_draws_ == Bfloat16Draws::eight_bits) {
    const UniformRange range = uniform_range(low, high, ModelDtype::bfloat16);
    for (float& v : values) v = uniform_from_unit(cpu_unit_8bit(random()), range, dtype);
    return;
  }
  const UniformRange range = uniform_range(low, high, ModelDtype::float32);
  for (float& v : values) v = uniform_from_unit(cpu_unit_float(random()), range, dtype);
}

void CpuGenerator::uniform(std::span<double> values, double low, double high) {
  for (double& v : values) v = uniform_from_unit(cpu_unit_double(random64()), low, high);
}

void CpuGenerator::normal(std::span<float> values, ModelDtype dtype, double mean, double std) {
  require_drawable(dtype);
  if (values.size() < kBlock) return normal_one_by_one(values, dtype, mean, std);
  if (dtype == ModelDtype::float32) return normal_float32(values, static_cast<float>(mean), static_cast<float>(std));
  if (bfloat16_draws_ == Bfloat16Draws::eight_bits) return normal_eight_bits(values, mean, std);
  normal_bfloat16(values, static_cast<float>(mean), static_cast<float>(std));
}

void CpuGenerator::normal_float32(std::span<float> values, float mean, float std) {
  normal_by_blocks(
      values, [this](std::span<float> part) { uniform(part, ModelDtype::float32, 0, 1); },
      [=](std::span<float, kBlock> block) { normal_block(block, mean, std); });
}

void CpuGenerator::normal_eight_bits(std::span<float> values, double mean, double std) {
  normal_by_blocks(
      values, [this](std::span<float> part) { uniform(part, ModelDtype::bfloat16, 0, 1); },
      [=](std::span<float, kBlock> block) { normal_block_every_step_bfloat16(block, mean, std); });
}

// Each block is drawn when its turn comes, so the elements of a rest are drawn once only.
void CpuGenerator::normal_bfloat16(std::span<float> values, float mean, float std) {
  const auto fill = [&](std::span<float, kBlock> block) {
    for (float& v : block) v = cpu_unit_float(random());
    normal_block(block, mean, std);
    for (float& v : block) v = round_to_bfloat16(v);
  };
  for (std::size_t i = 0; i + kBlock <= values.size(); i += kBlock)
    fill(std::span<float, kBlock>(values.subspan(i, kBlock)));
  if (values.size() % kBlock != 0) fill(std::span<float, kBlock>(values.last(kBlock)));
}

void CpuGenerator::normal(std::span<double> values, double mean, double std) {
  if (values.size() < kBlock) {
    for (double& v : values) v = next_standard_normal() * std + mean;
    return;
  }
  normal_by_blocks(
      values, [this](std::span<double> part) { uniform(part, 0, 1); },
      [=](std::span<double, kBlock> block) { normal_block(block, mean, std); });
}

void CpuGenerator::normal_one_by_one(std::span<float> values, ModelDtype dtype, double mean, double std) {
  require_drawable(dtype);
  for (float& v : values) v = round_to(dtype, static_cast<float>(next_standard_normal() * std + mean));
}

double CpuGenerator::next_standard_normal() {
  if (kept_normal_) {
    const double kept = *kept_normal_;
    kept_normal_.reset();
    return kept;
  }
  const double u1 = cpu_unit_double(random64()), u2 = cpu_unit_double(random64());
  const NormalPair pair = normal_pair(u1, u2);
  kept_normal_ = pair.second;
  return pair.first;
}

}  // namespace assay::reference
