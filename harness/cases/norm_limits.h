// How far the norms' outputs may be off: limits (gate 2) and freedoms (gate 3), derived in the .cc beside the
// arithmetic.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "harness/abi/assay_candidate.h"
#include "harness/cases/float_errors.h"
#include "harness/core/dtype.h"

namespace assay::harness {

// The operands as the candidate had them, and the rules it works under. Spans are [rows, width], weight [width].
struct NormOperands {
  std::int64_t rows = 0, width = 0, group = 1;
  double eps = 0;
  std::span<const double> x, gate /* empty: none */, weight, d_y /* empty: forward only */, d_x_extra /* empty: none */;
  DType dtype = DType::float32;
  assay_contract contract{};
  bool final_rounding = true;  // limits contain half an ulp of the output; false: the error before that rounding
};

// y = weight v / sqrt(mean of v^2 over the group + eps), v = x or x silu(gate).
Tolerance norm_forward_tolerance(const NormOperands& in, std::span<const double> y);

struct NormBackwardTolerance {
  Tolerance d_x, d_gate, d_weight;
};
// `d_x_dtype`: the gradient's own dtype where it is not the model's (a float32 residual stream).
NormBackwardTolerance norm_backward_tolerance(const NormOperands& in, std::span<const double> d_x,
                                              std::span<const double> d_gate, std::span<const double> d_weight,
                                              DType d_x_dtype);

// One sum of two stored tensors, rounded to `dtype`.
Tolerance sum_tolerance(std::span<const double> sum, DType dtype, bool final_rounding);

}  // namespace assay::harness
