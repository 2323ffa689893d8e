// Fixtures of a block whose mixer is the Mamba-2 layer, as calls of the catalogue.
#pragma once

#include "harness/cases/fixture_calls.h"

namespace assay::harness {

// Layer "block" with block_type "mamba".
bool is_mamba2_block(const Fixture& fixture);

// The forward call and, if gradients were recorded, the backward one. Throws FixtureError.
FixtureCalls block_fixture_calls(const Fixture& fixture);

}  // namespace assay::harness
