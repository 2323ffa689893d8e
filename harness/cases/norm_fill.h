// Inputs of the two norms. A row is cut into groups of `group` channels, each with its own root mean square.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace assay::harness {

struct NormProblem {
  std::int64_t rows = 0, width = 0, group = 1;
  bool gate = false;
  bool residual = false;
  std::string fill;
  std::uint64_t seed = 0;
  double eps = 1e-5;
};

// All [rows, width] but weight [width]. Not rounded yet to the case's dtype; the integer fill is exact in bfloat16.
struct NormInputs {
  std::vector<double> hidden_states, gate, residual, weight, d_output, d_residual;
};

// Fill `integer` (eps = 1/4, group a power of two from 4 to 4096, at most 64 rows). Per row and group, v = what is
// normed:
//   v are integers, |v| <= 85, with sum v^2 = group (4^m - 1/4), so rstd = 2^-m exactly; m in 3 .. 5 differs by row and
//   group,
//     and is large enough for the sum to reach 2^12.
//   gate: 0 or -110 makes v = 0; 32 makes silu(32) = 32 and v = 32 x, x = v / 32.
//   w = +-2^k. u = w dy is k v + a pairwise rotated v, so that sum u v = k sum v^2, and every product and sum of the
//   backward
//     pass, d_v = 2^-m (a rot(v) + k v 4^-(m+1)) included, fits 24 bits.
NormInputs norm_inputs(const NormProblem& problem);

// The integer fill exists for this group size.
bool has_integer_fill(std::int64_t rows, std::int64_t group);

}  // namespace assay::harness
