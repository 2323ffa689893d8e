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
  std::string step;                  // "step.2" of a fixture of several; empty
  bool follows = false;              // takes outputs of the call before it
};

struct FixtureCalls {
  std::vector<FixtureCall> calls;
  std::string missing;  // "ssd_scan.backward": gradients were recorded, but the catalogue has no such operation yet
};

// The family whose fixtures have this layer name ("mamba_rmsnorm_gated" is gated_rms_norm), or null: no kernel yet.
const Family* family_of_layer(std::string_view layer);

// Path `train`: the forward call, and the backward one if gradients were recorded. Path `decode`: a call for each step,
// from the state recorded after the one before. Throws FixtureError that names file and JSON pointer: a missing or
// unknown tensor or attribute, a shape or dtype that does not fit, an infinity where none may be.
FixtureCalls fixture_calls(const Fixture& fixture);

}  // namespace assay::harness
