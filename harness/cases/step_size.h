// Delta of the state space scan, of one token of one head, with its error: what the scan and its single step share.
#pragma once

#include "harness/cases/float_errors.h"

namespace assay::harness {

// A value with its absolute error.
struct Value {
  double value = 0, error = 0;
};

// Delta = softplus(dt + dt_bias), or the sum itself.
Value step_size(double dt, double dt_bias, bool softplus, const Budget& b, const assay_contract& contract);

}  // namespace assay::harness
