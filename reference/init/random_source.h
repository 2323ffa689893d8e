// RandomSource: a device's random number generator as initialisation sees it. mt19937.h and philox.h
// reproduce PyTorch's.
#pragma once

#include <span>

#include "reference/config.h"

namespace assay::reference {

enum class Device { cpu, cuda };

class RandomSource {
 public:
  virtual ~RandomSource() = default;
  virtual Device device() const = 0;

  // Overwrites `values` with what a contiguous tensor of `dtype` would receive from uniform_(low, high), each a number
  // of that dtype. dtype is float32 or bfloat16; std::invalid_argument for another.
  virtual void uniform(std::span<float> values, ModelDtype dtype, double low, double high) = 0;
  // Likewise normal_(mean, std).
  virtual void normal(std::span<float> values, ModelDtype dtype, double mean, double std) = 0;
};

}  // namespace assay::reference
