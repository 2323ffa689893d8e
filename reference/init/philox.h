// PyTorch's CUDA generator: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011), and the rules that say which thread of a
// launch draws which element. Words and uniforms are a GPU's; normals agree to about 1e-6 of std (normal.h).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "reference/init/random_source.h"

namespace assay::reference {

using PhiloxCounter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;
using PhiloxWords = std::array<std::uint32_t, 4>;
PhiloxWords philox4x32_10(PhiloxCounter counter, PhiloxKey key);
// Words 4 block .. 4 block + 3 of a subsequence of a seed, as curand numbers them.
PhiloxWords philox_words(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t block);

struct GpuSize {
  std::int64_t multiprocessors;
  std::int64_t threads_per_multiprocessor;
};

// One launch: thread i of 256 grid draws, in its call j, elements first + i + (j unroll + v) 256 grid, v < unroll.
struct CudaLaunch {
  std::int64_t first, count, grid;
  std::uint64_t offset;  // in words, where every subsequence starts
};
// The launches that fill n elements of `element_size` bytes, in order, `offset` being where the generator stands; it is
// advanced. A tensor of more than 2^31 bytes is halved until every part is below, the first half first, and the offset
// of each whole is spent before its parts.
std::vector<CudaLaunch> cuda_launches(std::int64_t n, std::int64_t element_size, int unroll, const GpuSize& gpu,
                                      std::uint64_t& offset);

class CudaGenerator final : public RandomSource {
 public:
  CudaGenerator(std::uint64_t seed, const GpuSize& gpu, std::uint64_t offset = 0);
  Device device() const override { return Device::cuda; }
  std::uint64_t offset() const { return offset_; }

  void uniform(std::span<float> values, ModelDtype dtype, double low, double high) override;
  void uniform(std::span<double> values, double low, double high);
  void normal(std::span<float> values, ModelDtype dtype, double mean, double std) override;
  void normal(std::span<double> values, double mean, double std);

 private:
  template <int kUnroll, class T, class FromWords>
  void fill(std::span<T> values, std::int64_t element_size, FromWords from_words);

  std::uint64_t seed_, offset_;
  GpuSize gpu_;
};

}  // namespace assay::reference
