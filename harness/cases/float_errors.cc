#include "harness/cases/float_errors.h"

#include <algorithm>

namespace assay::harness {

Tolerance make_tolerance(std::size_t size) { return {std::vector<double>(size), std::vector<double>(size)}; }

double with_rounding(bool final_rounding, DType dtype, double value, double error) {
  const double largest = std::fabs(value) + error;
  return final_rounding && std::isfinite(largest) ? error + 0.5 * ulp(dtype, largest) : error;
}

double order_error(const Sum& s, double terms, double k, const assay_contract& contract) {
  const double reach = std::fabs(s.total) + std::sqrt(s.squares);
  if (contract.accumulate == ASSAY_ACCUMULATE_FP32_TENSOR_CORE) return 2 * kUnit * terms * reach;
  return std::min(k * std::sqrt(terms / 3) * reach, terms * s.magnitudes) * kUnit;
}
double term_error(const Sum& s, double roundings, double k) {
  return std::min(k * std::sqrt(roundings / 3) * std::sqrt(s.squares), roundings * s.magnitudes) * kUnit;
}

double accumulator_updates(double products, const assay_contract& contract) {
  if (contract.accumulate != ASSAY_ACCUMULATE_FP32_TENSOR_CORE || contract.multiply == ASSAY_MULTIPLY_IEEE) return products;
  const double at_once = contract.multiply == ASSAY_MULTIPLY_BF16 ? 8 : 4;
  return std::ceil(products / at_once) * (contract.multiply == ASSAY_MULTIPLY_3XTF32 ? 3 : 1);
}

double operand_error(const assay_contract& contract) {
  switch (contract.multiply) {
    case ASSAY_MULTIPLY_BF16:
      return 0x1p-8;
    case ASSAY_MULTIPLY_TF32:
      return 0x1p-11;
    case ASSAY_MULTIPLY_3XTF32:
      return 1.5 * 0x1p-22;
    default:
      return 0;
  }
}

double operand_floor(const assay_contract& contract) {
  switch (contract.multiply) {
    case ASSAY_MULTIPLY_BF16:
      return 0x1p-134;
    case ASSAY_MULTIPLY_TF32:
    case ASSAY_MULTIPLY_3XTF32:
      return 0x1p-137;
    default:
      return 0;
  }
}

double exp_error(double t, const assay_contract& contract) {
  return ulps(contract.functions == ASSAY_FUNCTIONS_FAST ? 2 + 1.173 * std::fabs(t) : 2);
}

double log_error(double value, const assay_contract& contract) {
  const bool fast = contract.functions == ASSAY_FUNCTIONS_FAST && contract.softplus == ASSAY_SOFTPLUS_NAIVE;
  if (!fast) return ulps(1) * value;  // log1pf has no fast version
  return value <= std::log(2.0) ? std::exp2(-21.41) : ulps(3) * value;
}

Gate gate_at(double z, const Budget& b, const assay_contract& contract) {
  const double sigma = 1 / (1 + std::exp(-z)), rest = 1 / (1 + std::exp(z));  // rest = 1 - sigma without cancellation
  // 1 / (1 + E): E's error weighs E / (1 + E) = rest; one rounding of the sum, a division of 2 ulp.
  const double sigma_error = exp_error(z, contract) * rest + b.rounding * kUnit + ulps(2);
  Gate g;
  g.silu = z * sigma;
  g.silu_error = sigma_error + b.rounding * kUnit;
  g.derivative = sigma * (1 + z * rest);
  // 1 - sigma is computed with sigma's absolute error and one rounding; then a product, a sum, a product.
  const double rest_error = sigma * sigma_error + b.rounding * kUnit * rest;
  g.derivative_error = std::fabs(g.derivative) * (sigma_error + b.rounding * kUnit) +
                       sigma * (std::fabs(z) * (rest_error + b.rounding * kUnit * rest) +
                                b.rounding * kUnit * (1 + std::fabs(z) * rest)) +
                       (1 + std::fabs(z)) * kTiny;
  return g;
}

}  // namespace assay::harness
