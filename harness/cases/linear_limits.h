// How far a linear layer's outputs may be off: limits (gate 2) and freedoms (gate 3), derived in the .cc beside the
// arithmetic.
#pragma once

#include <cstdint>
#include <span>

#include "harness/cases/float_errors.h"

namespace assay::harness {

// out[i, j] = rnd(sum_{k < depth} a(i, k) b(j, k) + bias[j]); element (i, k) of a lies at a[i a_row + k a_depth].
struct ProductOperands {
  std::int64_t rows = 0, columns = 0, depth = 0;
  std::span<const double> a, b, bias /* empty: none */;
  std::int64_t a_row = 0, a_depth = 0, b_row = 0, b_depth = 0;
  DType dtype = DType::float32;
  assay_contract contract{};
  bool exact = false;  // fill `integer`: no sum rounds
};
Tolerance product_tolerance(const ProductOperands& in);

// out[j] = rnd(sum_i x[i, j])   x [rows, columns]
Tolerance column_sum_tolerance(std::span<const double> x, std::int64_t rows, std::int64_t columns, DType dtype,
                               const assay_contract& contract, bool exact);

}  // namespace assay::harness
