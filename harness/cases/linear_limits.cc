// The notation and the errors of sums: harness/cases/float_errors.h. A sum of products t_k = a_k b_k:
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

}  // namespace

Tolerance linear_tolerance(const LinearSums& in, DType dtype, const assay_contract& contract, bool exact) {
  assay_contract rules = contract;
  if (in.products == 0) {  // additions: nothing is split or rounded, and no tensor core adds
    rules.multiply = ASSAY_MULTIPLY_IEEE;
    rules.accumulate = ASSAY_ACCUMULATE_FP32;
  }
  const bool stored_exactly = dtype == DType::bfloat16;
  Tolerance out = make_tolerance(in.sum.size());
  for (std::size_t i = 0; i < in.sum.size(); ++i) {
    const auto at = static_cast<reference::Index>(i);
    const Sum s{.total = in.sum[i], .squares = in.terms.squares[at], .magnitudes = in.terms.absolute[at]};
    const auto error = [&](const Budget& b) {
      return exact ? 0 : sum_error(s, in.products, in.others, stored_exactly, b, rules);
    };
    out.limit[i] = with_rounding(!exact, dtype, s.total, error(kLimit));
    out.freedom[i] = error(kFreedom);
  }
  return out;
}

}  // namespace assay::harness
