// Inputs of the scan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace assay::harness {

struct ScanProblem {
  std::int64_t batch = 0, seq_len = 0, heads = 1, head_dim = 1, groups = 1, state_size = 1;
  bool softplus = true, bias = true;
  bool limited = false;  // Delta is clamped, at both ends
  std::string fill;
  std::uint64_t seed = 0;
};

// Not rounded yet to the dtypes of the case; the integer fill is exact in bfloat16, but for A.
struct ScanInputs {
  std::vector<double> x, z;           // [batch, seq_len, heads, head_dim]
  std::vector<double> dt;             // [batch, seq_len, heads]
  std::vector<double> A;              // [heads], <= 0
  std::vector<double> dt_bias;        // [heads]
  std::vector<double> D;              // [heads, head_dim]
  std::vector<double> B, C;           // [batch, seq_len, groups, state_size]
  std::vector<double> initial_state;  // [batch, heads, head_dim, state_size]
  std::vector<double> seq_idx;        // [batch, seq_len]; even rows begin with 0, odd ones do not
  std::vector<double> cu_seqlens;     // of other documents, some of them empty, and tokens after the last
  double dt_min = 0, dt_max = 0;      // dt_max is infinite unless limited
};

// Fill `integer`. Delta is 32 or 64: by softplus above its threshold, by the clamp, or as it is. Heads in turn: A = 0,
// decay 1; A = -1000, decay 0; A = -ln 2 / 32, decay 1/2 or 1/4 by token. B and C are +-1, x is +-1 or +-3. For heads
// of decay 1 and 0 every C . B times Delta and every state is a whole number of at most 8 bits times 32, so that chunks
// round nothing in bfloat16.
// The numbers of the tokens of documents in a row.
std::vector<double> seq_idx_of(const std::vector<double>& cu_seqlens, std::int64_t seq_len);

bool has_integer_fill(const ScanProblem& problem);
ScanInputs scan_inputs(const ScanProblem& problem);

// Gradients coming in. Not for fill `integer`.
struct ScanGradients {
  std::vector<double> y;            // [batch, seq_len, heads, head_dim]
  std::vector<double> final_state;  // [batch, heads, head_dim, state_size]
};
ScanGradients scan_gradients(const ScanProblem& problem);

}  // namespace assay::harness
