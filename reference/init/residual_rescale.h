// rescale_prenorm_residual: the projections that write to the residual stream are divided by sqrt(num_hidden_layers).
#pragma once

#include <cmath>
#include <cstdint>

#include "reference/init/random_source.h"
#include "reference/init/uniform.h"

namespace assay::reference {

// Computed in float32 for bfloat16 weights, too, and rounded once. A GPU multiplies by the rounded reciprocal.
inline float rescale_residual(float weight, std::int64_t num_hidden_layers, ModelDtype dtype, Device device) {
  const float root = static_cast<float>(std::sqrt(static_cast<double>(num_hidden_layers)));
  return round_to(dtype, device == Device::cuda ? weight * (1.0f / root) : weight / root);
}

}  // namespace assay::reference
