// The schedule, limits and workers that the next launch uses.
#pragma once

#include <cstdint>

#include "cuda/simt/executor.h"

namespace simt {

struct LaunchLimits {
  int sm;
  std::size_t shared_per_block;  // static and dynamic together, with opt-in
};

struct Settings {
  Schedule schedule;
  std::uint64_t seed = 1;
  int workers = 0;
  bool counting = false;
  LaunchLimits limits;
};
Settings& settings();

// xorshift64*: small, and the same everywhere.
class Random {
 public:
  void seed(std::uint64_t a, std::uint64_t b);
  std::uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1Dull;
  }
  unsigned below(unsigned n) { return static_cast<unsigned>((next() >> 32) * n >> 32); }
  bool coin() { return next() >> 63 != 0; }

 private:
  std::uint64_t state_ = 1;
};

}  // namespace simt
