// Scalar functions of the layers. Precise: expf, sqrtf and division as documented (2, 0 and 0 ulp), nothing
// approximate.
#pragma once

#include "cuda/simt/simt.cuh"

namespace assay::gpu {

// sigmoid(x) and 1 - sigmoid(x). Only e^-|x| is taken, which cannot overflow: far left of zero the value falls to 0
// through the denormals instead of through 1 / inf, and 1 - value keeps its digits far right of it.
struct Sigmoid {
  float value, complement;
  SIMT_DEV explicit Sigmoid(float x) {
    const float t = expf(-fabsf(x));
    const float larger = 1.0f / (1.0f + t), smaller = t * larger;
    value = x >= 0.0f ? larger : smaller;
    complement = x >= 0.0f ? smaller : larger;
  }
};

// silu(x) = x sigmoid(x)
SIMT_DEV float silu(float x) { return x * Sigmoid(x).value; }

// silu'(x) = sigmoid(x) (1 + x (1 - sigmoid(x)))
SIMT_DEV float silu_derivative(float x, const Sigmoid& s) { return s.value * (1.0f + x * s.complement); }

// softplus(x) = log(1 + e^x), the argument itself above 20
SIMT_DEV float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

// 1 / sqrt(mean of squares + eps): a division and a square root, each rounded correctly, not an approximate rsqrt.
SIMT_DEV float reciprocal_rms(float sum_of_squares, std::int64_t terms, float eps) {
  return 1.0f / sqrtf(sum_of_squares / static_cast<float>(terms) + eps);
}

}  // namespace assay::gpu
