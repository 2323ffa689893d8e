// Inputs of one decode step of a Mamba-2 mixer, between its projections.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace assay::harness {

struct DecodeStepProblem {
  std::int64_t batch = 0, cache_rows = 0, heads = 1, head_dim = 1, groups = 1, state_size = 1, taps = 4, conv_len = 4;
  std::string fill;
  std::uint64_t seed = 0;

  std::int64_t inner() const { return heads * head_dim; }
  std::int64_t channels() const { return inner() + 2 * groups * state_size; }
};

// Not rounded yet to the dtypes of the case; the integer fill is exact in bfloat16.
struct DecodeStepInputs {
  std::vector<double> projected;               // [batch, inner + channels + heads]: z | x B C | dt
  std::vector<double> conv_weight, conv_bias;  // [channels, taps], [channels]
  std::vector<double> dt_bias, A, D;           // [heads]
  std::vector<double> norm_weight;             // [inner]
  std::vector<double> conv_state;              // [cache_rows, channels, conv_len]
  std::vector<double> state;                   // [cache_rows, heads, head_dim, state_size]
  std::vector<double> cache_row;               // [batch]: none twice; -1 every fourth: padding
};

// Those of the convolution and of the state update (conv_fill.h, ssm_state_update_fill.h), norm weights around 1.
//
// Fill `integer`, for at most 7 taps: the convolution's x = 16 k, weights 8 m, bias 128 n with odd k, m, n, |k|, |m| <=
// 3, |n| <= 9: x, B and C are 0 or 128 j, j <= 9 (taps + 1) <= 72, which fit bfloat16. The state starts from multiples
// of 2^14, |.| <= 127 * 2^14, Delta is a whole number up to 31 and decays are 1 and 0: the new state is a multiple of
// 2^14 below 2^18 * 2^14, exact in float32.
DecodeStepInputs decode_step_inputs(const DecodeStepProblem& problem);

}  // namespace assay::harness
