// Inputs of the causal convolution.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace assay::harness {

struct ConvProblem {
  std::int64_t batch = 0, seq_len = 0, channels = 0, taps = 1;
  std::int64_t state_len = 0;  // columns of a state
  std::string fill;
  std::uint64_t seed = 0;
};

// Not rounded yet to the case's dtype; the integer fill is exact in bfloat16.
struct ConvInputs {
  std::vector<double> hidden_states, d_output;  // [batch, seq_len, channels]
  std::vector<double> weight, bias;             // [channels, taps], [channels]
  std::vector<double> state, d_state;  // [batch, channels, state_len]: the initial one, the final one's gradient
  std::vector<double> seq_idx;         // [batch, seq_len]: documents of 1 token and more, some of them padding
};

// Fill `integer`, for at most 4096 tokens: x = 16 k, weight = 8 m, bias = 2048 n, d_output = 2 d, d_state = 8 e with
// odd k, m, n, d, e, |k| <= 63, |m| <= 15, |n| <= 63, |d| <= 31, |e| <= 127. Then
//   p is a multiple of 128 below (taps + 1) 2^17: exact in 24 bits, not in 11
//   silu(p) is p where p >= 128, 0 at 0 and, to within the floor of silu, 0 where p <= -128: e^-128 is 3e-56.
//     silu'(p) is 1, 1/2 and 0
//   dp = 2 d, d or 0; the terms of d_weight are multiples of 16, below 62 * 63 * 16: 4096 of them fit 24 bits
//   those of d_x are multiples of 8, below 62 * 120
ConvInputs conv_inputs(const ConvProblem& problem);

bool has_integer_fill(const ConvProblem& problem);

}  // namespace assay::harness
