// The counter-based generator of all inputs: Philox 4x32-10 keyed by seed and tensor name. The same numbers on every
// machine, for any element, in any order.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace assay::harness {

// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
inline std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p = std::uint64_t{0xD2511F53} * counter[0], q = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(q >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(q),
               static_cast<std::uint32_t>(p >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

class Random {
 public:
  Random(std::uint64_t seed, std::string_view stream)
      : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)} {
    stream_ = 1469598103934665603u;  // FNV-1a
    for (const char c : stream) stream_ = (stream_ ^ static_cast<unsigned char>(c)) * 1099511628211u;
  }

  std::array<std::uint32_t, 4> words(std::uint64_t i) const {
    return philox4x32({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32),
                       static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
                      key_);
  }
  // Uniform in [0, 1), 32 bits.
  double uniform(std::uint64_t i) const { return words(i)[0] * 0x1p-32; }
  // Uniform whole number in [low, high].
  std::int64_t integer(std::uint64_t i, std::int64_t low, std::int64_t high) const {
    return low + static_cast<std::int64_t>(uniform(i) * static_cast<double>(high - low + 1));
  }
  // Mean 0, variance 1: eight 16-bit uniforms, summed and scaled. No libm, so the same bits everywhere; |value| < 4.9.
  double normal(std::uint64_t i) const {
    std::int64_t sum = 0;
    for (const std::uint32_t w : words(i)) sum += (w & 0xFFFF) + (w >> 16);
    return static_cast<double>(sum - 4 * 0xFFFF) * (0x1p-16 * 1.2247448713915890);  // sqrt(12 / 8)
  }

 private:
  std::array<std::uint32_t, 2> key_;
  std::uint64_t stream_;
};

}  // namespace assay::harness
