// How far a linear layer's outputs may be off: limits (gate 2) and freedoms (gate 3), derived in the .cc beside the
// arithmetic.
#pragma once

#include <vector>

#include "harness/cases/float_errors.h"
#include "reference/term_sums.h"

namespace assay::harness {

// Of stored sums, each of `products` products and `others` addends that are none (a bias, or rows of a column).
struct LinearSums {
  const std::vector<double>& sum;
  reference::TermSums<double> terms;
  double products = 0, others = 0;
};
// exact: fill `integer`, where no sum rounds.
Tolerance linear_tolerance(const LinearSums& in, DType dtype, const assay_contract& contract, bool exact);

}  // namespace assay::harness
