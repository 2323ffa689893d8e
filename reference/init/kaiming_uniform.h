// What a linear layer and a convolution draw at construction (He et al. 2015, with a = sqrt 5): weight and bias are
// U(-b, b), b = 1 / sqrt(fan_in), fan_in = inputs of one output.
#pragma once

#include <cmath>
#include <cstdint>

namespace assay::reference {

// gain / sqrt(fan_in) * sqrt 3 with gain = sqrt(2 / (1 + a^2)), in PyTorch's order of operations.
inline double kaiming_weight_bound(std::int64_t fan_in) {
  const double a = std::sqrt(5.0), gain = std::sqrt(2.0 / (1.0 + a * a));
  return std::sqrt(3.0) * (gain / std::sqrt(static_cast<double>(fan_in)));
}
inline double kaiming_bias_bound(std::int64_t fan_in) { return 1.0 / std::sqrt(static_cast<double>(fan_in)); }

}  // namespace assay::reference
