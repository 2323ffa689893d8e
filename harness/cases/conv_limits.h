// How far the causal convolution's outputs may be off: limits (gate 2) and freedoms (gate 3), derived in the .cc beside
// the arithmetic.
#pragma once

#include <cstdint>
#include <span>

#include "harness/cases/float_errors.h"

namespace assay::harness {

// The operands as the candidate had them, and the rules it works under. Empty spans: not given.
struct ConvOperands {
  std::int64_t batch = 0, seq_len = 0, channels = 0, taps = 1;
  bool silu = true;
  std::span<const double> x;                             // [batch, seq_len, channels]
  std::span<const double> weight, bias;                  // [channels, taps], [channels]
  std::span<const double> initial_state, d_final_state;  // [batch, channels, taps - 1]
  std::span<const double> seq_idx;                       // [batch, seq_len]
  std::span<const double> d_y;                           // [batch, seq_len, channels]; backward only
  DType dtype = DType::float32;
  assay_contract contract{};
  bool exact =
      false;  // fill `integer`: no sum or product rounds; limits are what functions err before the last rounding
};

Tolerance conv_forward_tolerance(const ConvOperands& in);

struct ConvBackwardTolerance {
  Tolerance d_x, d_weight, d_bias, d_initial_state;
};
ConvBackwardTolerance conv_backward_tolerance(const ConvOperands& in);

}  // namespace assay::harness
