// The notation and the errors of sums: harness/cases/float_errors.h. A product of `depth` terms t_k = a_k b_k:
//
//   sum        in any order, one update of the accumulator for each product or for as many as a tensor core adds at
//              once; the bias is one more
//   products   rounded once each, or not at all; bfloat16 operands have exact products in float32
//   operands   of float32 products under a contract that splits or rounds them: two operands each
#include "harness/cases/linear_limits.h"

#include <algorithm>
#include <cmath>

namespace assay::harness {
namespace {

// Of one sum, for one budget.
double sum_error(const Sum& terms, double products, double others, bool stored_exactly, const Budget& b,
                 const assay_contract& contract) {
  const double k = b.per_element, steps = accumulator_updates(products, contract) + others;
  double error = order_error(terms, steps, k, contract) + (products + others) * kTiny;
  if (!stored_exactly) {
    const double operands = 2 * operand_error(contract);
    error +=
        b.rounding * term_error(terms, 1, k) + operands * std::min(k * std::sqrt(terms.squares / 3), terms.magnitudes);
  }
  return error;
}

void put(Tolerance& out, std::int64_t i, const Sum& terms, double products, double others, DType dtype,
         const assay_contract& contract, bool exact) {
  const bool stored_exactly = dtype == DType::bfloat16;
  const double limit = exact ? 0 : sum_error(terms, products, others, stored_exactly, kLimit, contract);
  out.limit[i] = with_rounding(!exact, dtype, terms.total, limit);
  out.freedom[i] = exact ? 0 : sum_error(terms, products, others, stored_exactly, kFreedom, contract);
}

}  // namespace

Tolerance product_tolerance(const ProductOperands& in) {
  Tolerance out = make_tolerance(static_cast<std::size_t>(in.rows * in.columns));
  for (std::int64_t i = 0; i < in.rows; ++i) {
    for (std::int64_t j = 0; j < in.columns; ++j) {
      const double *a = in.a.data() + i * in.a_row, *b = in.b.data() + j * in.b_row;
      Sum terms;
      for (std::int64_t k = 0; k < in.depth; ++k) terms.add(a[k * in.a_depth] * b[k * in.b_depth]);
      if (!in.bias.empty()) terms.add(in.bias[j]);
      put(out, i * in.columns + j, terms, static_cast<double>(in.depth), in.bias.empty() ? 0 : 1, in.dtype, in.contract,
          in.exact);
    }
  }
  return out;
}

Tolerance column_sum_tolerance(std::span<const double> x, std::int64_t rows, std::int64_t columns, DType dtype,
                               const assay_contract& contract, bool exact) {
  assay_contract additions = contract;  // no products: nothing is split or rounded, and no tensor core adds
  additions.multiply = ASSAY_MULTIPLY_IEEE;
  additions.accumulate = ASSAY_ACCUMULATE_FP32;
  Tolerance out = make_tolerance(static_cast<std::size_t>(columns));
  for (std::int64_t j = 0; j < columns; ++j) {
    Sum terms;
    for (std::int64_t i = 0; i < rows; ++i) terms.add(x[i * columns + j]);
    put(out, j, terms, 0, static_cast<double>(rows), dtype, additions, exact);
  }
  return out;
}

}  // namespace assay::harness
