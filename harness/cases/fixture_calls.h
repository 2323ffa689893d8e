// A fixture of a kernel's layer as calls of the catalogue, with what was recorded of their outputs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "harness/cases/family.h"
#include "harness/io/fixture.h"

namespace assay::harness {

struct FixtureCall {
  Call call;                         // operation, attributes, inputs with their bytes, outputs to be written
  std::vector<HostTensor> recorded;  // the fixture's values of the outputs; a subset of call's
};

// The family whose fixtures have this layer name ("mamba_rmsnorm_gated" is gated_rms_norm), or null: no kernel yet.
const Family* family_of_layer(std::string_view layer);

// The forward call, and the backward one if gradients were recorded. Throws FixtureError that names file and JSON
// pointer: a missing or unknown tensor or attribute, a shape or dtype that does not fit, an infinity where none may be.
std::vector<FixtureCall> fixture_calls(const Fixture& fixture);

}  // namespace assay::harness
