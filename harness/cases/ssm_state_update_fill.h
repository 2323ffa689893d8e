// Inputs of one step of the scan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace assay::harness {

struct StateUpdateProblem {
  std::int64_t batch = 0, cache_rows = 0, heads = 1, head_dim = 1, groups = 1, state_size = 1;
  bool softplus = true, bias = true;
  std::string fill;
  std::uint64_t seed = 0;
};

// Not rounded yet to the dtypes of the case; the integer fill is exact in bfloat16.
struct StateUpdateInputs {
  std::vector<double> x, z;      // [batch, heads, head_dim]
  std::vector<double> dt;        // [batch, heads]
  std::vector<double> A;         // [heads], <= 0
  std::vector<double> dt_bias;   // [heads]
  std::vector<double> D;         // [heads, head_dim]
  std::vector<double> B, C;       // [batch, groups, state_size]
  std::vector<double> state;      // [cache_rows, heads, head_dim, state_size]
  std::vector<double> cache_row;  // [batch]: none twice; -1 every fourth: padding
};

// Fill `integer`: small whole numbers. dt + dt_bias (dt alone without a bias) is 21 .. 31, above the threshold of softplus, so Delta is it; A is 0
// or -1000 by head, so the state is kept whole or forgotten; silu(z) is z or 0. Sums then stay below 2^22, exact in
// float32, and the outputs are rounded once.
StateUpdateInputs state_update_inputs(const StateUpdateProblem& problem);

}  // namespace assay::harness
