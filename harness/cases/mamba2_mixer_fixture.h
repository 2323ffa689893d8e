// Fixtures of the Mamba-2 mixer as calls of the catalogue.
#pragma once

#include "harness/cases/fixture_calls.h"

namespace assay::harness {

// Path "train": the forward call and, if gradients were recorded, the backward one. Path "prefill_decode": the prefill,
// from fresh states as upstream's is, then each step, whose states are those that the candidate left. Throws
// FixtureError.
FixtureCalls mixer_fixture_calls(const Fixture& fixture);

}  // namespace assay::harness
