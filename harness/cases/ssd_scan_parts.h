// What the limits of the scan, forward and backward, are made of. Derivations: ssd_scan_limits.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "harness/cases/ssd_scan_limits.h"

namespace assay::harness {

constexpr std::int64_t kLongestChunk = 256;  // of a kernel's own
constexpr double kNothingLeft = -800;        // e^-800 is 0 in double

inline std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

// What one output is made of.
struct Parts {
  double value = 0;
  double tokens2 = 0, products2 = 0;  // sums of q_j^2, of t_jn^2
  double carried2 = 0;                // of the h that is carried
  double operands2 = 0, stored2 = 0;  // squares of what has an intermediate as operand, a stored tensor as operand
  double magnitudes = 0;              // sum of |t_jn|
  double steps = 0;                   // updates of accumulators
  double drift = 0, walk2 = 0;        // exponents: sums of e_s |P_s|, of 2 (c_s P_s)^2
  double window = 0;                  // largest c_s
  double functions = 0;               // errors of factors, summed
  double floor = 0;                   // of what underflows
};

// Of an output before its own rounding.
class Errors {
 public:
  Errors(DType dtype, const assay_contract& contract);
  double of(const Parts& parts, const Budget& budget) const;

 private:
  double operands(const Parts& p, const Budget& b) const;

  const assay_contract& contract_;
  double operand_;
  bool stored_in_float32_;
};

// The steps of one head of one row.
struct Head {
  std::vector<double> delta, delta_error;
  std::vector<double> exponent;      // d_t
  std::vector<double> decay;         // a_t, 0 where a document begins
  std::vector<double> drift;         // e_t: of a_t, by Delta and the function
  std::vector<double> window;        // c_t
  std::vector<std::int64_t> begins;  // the first token of t's document; -1: it goes on from the initial state
  bool decays_are_exact = true;      // all 1 or 0
};

Head head_at(const ScanOperands& in, std::int64_t row, std::int64_t head, const assay_contract& contract);

// C_t . B_j of one group of one row, j <= t: the sum, and sums over its terms.
struct Products {
  std::vector<double> sum, squares, magnitudes;
  std::int64_t tokens;

  std::size_t at(std::int64_t t, std::int64_t j) const { return size(t * tokens + j); }
};

Products products_of(const ScanOperands& in, std::int64_t row, std::int64_t group);

}  // namespace assay::harness
