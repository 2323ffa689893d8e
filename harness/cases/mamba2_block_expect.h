// What the taps and outputs of a Mamba-2 block should be: each step's on the candidate's own inputs to it, and the
// whole's.
#pragma once

#include <vector>

#include "harness/cases/family.h"

namespace assay::harness {

// `call`: as a family's expect() gets it; a backward has the taps of its forward, too.
std::vector<Expectation> block_expectations(const Call& call, const assay_contract& contract, bool exact);

}  // namespace assay::harness
