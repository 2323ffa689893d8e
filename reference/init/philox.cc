#include "reference/init/philox.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "reference/init/normal.h"
#include "reference/init/uniform.h"
#include "reference/init/unit_interval.h"

namespace assay::reference {
namespace {

constexpr std::int64_t kThreads = 256;         // of a block
constexpr std::uint64_t kWordsPerCall = 4;     // offsets count words
constexpr std::int64_t kMaxBytes = 1ll << 31;  // what 32-bit indexing reaches

std::int64_t size_in_bytes(ModelDtype dtype) {
  if (dtype == ModelDtype::float64)
    throw std::invalid_argument(
        "CudaGenerator: dtype float64 into floats; want float32 or bfloat16, or a span of double");
  return dtype == ModelDtype::bfloat16 ? 2 : 4;
}

void split_into_launches(std::int64_t first, std::int64_t n, std::int64_t element_size, int unroll, const GpuSize& gpu,
                         std::uint64_t& offset, std::vector<CudaLaunch>& launches) {
  const std::int64_t most_blocks = gpu.multiprocessors * (gpu.threads_per_multiprocessor / kThreads);
  const std::int64_t grid = std::min((n + kThreads - 1) / kThreads, most_blocks);
  const std::uint64_t start = offset;
  offset += kWordsPerCall * static_cast<std::uint64_t>((n - 1) / (kThreads * grid * unroll) + 1);
  if (n > kMaxBytes / element_size) {
    split_into_launches(first, n / 2, element_size, unroll, gpu, offset, launches);
    split_into_launches(first + n / 2, n - n / 2, element_size, unroll, gpu, offset, launches);
  } else {
    launches.push_back({.first = first, .count = n, .grid = grid, .offset = start});
  }
}

}  // namespace

PhiloxWords philox4x32_10(PhiloxCounter c, PhiloxKey k) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p = std::uint64_t{0xD2511F53} * c[0], q = std::uint64_t{0xCD9E8D57} * c[2];
    const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
    const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
    c = {high(q) ^ c[1] ^ k[0], low(q), high(p) ^ c[3] ^ k[1], low(p)};
    k[0] += 0x9E3779B9;  // the golden ratio
    k[1] += 0xBB67AE85;  // sqrt(3) - 1
  }
  return c;
}

PhiloxWords philox_words(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t block) {
  const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  return philox4x32_10({low(block), high(block), low(subsequence), high(subsequence)}, {low(seed), high(seed)});
}

std::vector<CudaLaunch> cuda_launches(std::int64_t n, std::int64_t element_size, int unroll, const GpuSize& gpu,
                                      std::uint64_t& offset) {
  std::vector<CudaLaunch> launches;
  if (n > 0) split_into_launches(0, n, element_size, unroll, gpu, offset, launches);
  return launches;
}

CudaGenerator::CudaGenerator(std::uint64_t seed, const GpuSize& gpu, std::uint64_t offset)
    : seed_(seed), offset_(offset), gpu_(gpu) {
  if (gpu.multiprocessors < 1 || gpu.threads_per_multiprocessor < kThreads)
    throw std::invalid_argument("CudaGenerator: " + std::to_string(gpu.multiprocessors) + " multiprocessors of " +
                                std::to_string(gpu.threads_per_multiprocessor) +
                                " threads; want 1 or more, of 256 threads or more");
  if (offset % kWordsPerCall != 0)
    throw std::invalid_argument("CudaGenerator: offset = " + std::to_string(offset) + "; want a multiple of 4");
}

template <int kUnroll, class T, class FromWords>
void CudaGenerator::fill(std::span<T> values, std::int64_t element_size, FromWords from_words) {
  const auto n = static_cast<std::int64_t>(values.size());
  for (const CudaLaunch& launch : cuda_launches(n, element_size, kUnroll, gpu_, offset_)) {
    const std::int64_t threads = kThreads * launch.grid;
    std::uint64_t block = launch.offset / kWordsPerCall;
    for (std::int64_t base = 0; base < launch.count; base += threads * kUnroll, ++block) {
      for (std::int64_t thread = 0; thread < std::min(threads, launch.count - base); ++thread) {
        const std::array<T, kUnroll> drawn = from_words(philox_words(seed_, static_cast<std::uint64_t>(thread), block));
        for (std::int64_t v = 0; v < kUnroll; ++v) {
          const std::int64_t element = base + thread + v * threads;
          if (element < launch.count) values[launch.first + element] = drawn[v];
        }
      }
    }
  }
}

void CudaGenerator::uniform(std::span<float> values, ModelDtype dtype, double low, double high) {
  const std::int64_t bytes = size_in_bytes(dtype);
  const UniformRange range = uniform_range(low, high, dtype);
  fill<4>(values, bytes, [=](const PhiloxWords& w) {
    const auto value = [&](std::uint32_t word) { return uniform_from_unit(cuda_unit_float(word), range, dtype); };
    return std::array{value(w[0]), value(w[1]), value(w[2]), value(w[3])};
  });
}

void CudaGenerator::uniform(std::span<double> values, double low, double high) {
  fill<2>(values, sizeof(double), [=](const PhiloxWords& w) {
    return std::array{uniform_from_unit(cuda_unit_double(w[0], w[1]), low, high),
                      uniform_from_unit(cuda_unit_double(w[2], w[3]), low, high)};
  });
}

void CudaGenerator::normal(std::span<float> values, ModelDtype dtype, double mean, double std) {
  const std::int64_t bytes = size_in_bytes(dtype);
  const auto mu = static_cast<float>(mean), sigma = static_cast<float>(std);
  fill<4>(values, bytes, [=](const PhiloxWords& w) {
    const auto value = [&](double z) { return round_to(dtype, std::fma(static_cast<float>(z), sigma, mu)); };
    const NormalPair a = cuda_normal_pair(w[0], w[1]), b = cuda_normal_pair(w[2], w[3]);
    return std::array{value(a.first), value(a.second), value(b.first), value(b.second)};
  });
}

void CudaGenerator::normal(std::span<double> values, double mean, double std) {
  fill<2>(values, sizeof(double), [=](const PhiloxWords& w) {
    const NormalPair pair = cuda_normal_pair(w[0], w[1], w[2], w[3]);
    return std::array{std::fma(pair.first, std, mean), std::fma(pair.second, std, mean)};
  });
}

}  // namespace assay::reference
