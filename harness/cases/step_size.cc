#include "harness/cases/step_size.h"

namespace assay::harness {

constexpr double kSoftplusThreshold = 20;

Value step_size(double dt, double dt_bias, bool softplus, const Budget& b, const assay_contract& contract) {
  const double v = dt + dt_bias, v_error = dt_bias == 0 ? 0 : b.rounding * kUnit * std::fabs(v);
  if (!softplus || v > kSoftplusThreshold) return {v, v_error};
  // ln(1 + E): E's error weighs E / (1 + E) = sigma(v); then the logarithm's own. Naively, 1 + E is rounded first,
  // which costs u of it, so u absolutely. e^v may underflow to 0.
  const double sigma = 1 / (1 + std::exp(-v)), s = std::log1p(std::exp(v));
  const double naive = contract.softplus == ASSAY_SOFTPLUS_NAIVE ? kUnit : 0;
  return {s, sigma * (v_error + exp_error(v, contract)) + log_error(s, contract) + naive + kTiny};
}

}  // namespace assay::harness
