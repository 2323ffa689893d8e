// The Mamba-2 mixer as a whole, judged by gate 3 alone: what it gives, against what the reference's own layer gives.
#pragma once

#include <vector>

#include "harness/cases/family.h"
#include "reference/config.h"

namespace assay::harness {

// The fields that a mixer has of a model whose layer this call is.
reference::NemotronV3Config mixer_config(const Call& layer);

// Of every output of `layer`. `steps`: what its steps should give; their freedoms are carried on to the end.
std::vector<Expectation> mixer_end_to_end(const Call& layer, const std::vector<Expectation>& steps);

}  // namespace assay::harness
