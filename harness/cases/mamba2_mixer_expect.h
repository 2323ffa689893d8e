// What the taps and outputs of the Mamba-2 mixer should be: each step's on the candidate's own inputs to it, and the
// whole's.
#pragma once

#include <vector>

#include "harness/cases/family.h"

namespace assay::harness {

// `call`: as a family's expect() gets it; a backward has the taps of its forward, too.
std::vector<Expectation> mixer_expectations(const Call& call, const assay_contract& contract, bool exact);

// For the block around it: the steps' alone, and what the forward of a backward's call was free to do, which is felt in
// the gradients, too.
std::vector<Expectation> mixer_step_expectations(const Call& call, const assay_contract& contract);
std::vector<Expectation> mixer_forward_freedom(const Call& backward, const assay_contract& contract);

// The contract of steps that have no products on tensor cores.
assay_contract without_tensor_cores(assay_contract contract);

}  // namespace assay::harness
