// How far one decode step of a Mamba-2 mixer may be off: limits (gate 2) and freedoms (gate 3) of its output and of the
// state. They are those of its three parts, with what each part's error does to the ones behind it.
#pragma once

#include <vector>

#include "harness/cases/float_errors.h"
#include "harness/core/call.h"

namespace assay::harness {

// What the oracle found on the way.
struct DecodeStepValues {
  std::vector<double> conv_past;  // [batch, channels, taps - 1]: the columns that the taps read; 0 for padded rows
  std::vector<double> xBC;        // [batch, channels], after the convolution
  std::vector<double> y;          // [batch, inner]
  std::vector<double> out;        // [batch, inner]
};

struct DecodeStepTolerance {
  Tolerance out;    // [batch, inner]
  Tolerance state;  // the cache; rows that no batch row uses must keep their bits
};

// `call`: mamba2_decode_step.forward; `before`: the state before the step. `exact`: inputs of fill `integer`: the state
// is exact before its rounding, but for functions.
DecodeStepTolerance decode_step_tolerance(const Call& call, const HostTensor& before, const DecodeStepValues& values,
                                          const assay_contract& contract, bool exact);

}  // namespace assay::harness
