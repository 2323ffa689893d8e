// The layers' evaluations, one a file. Private to this folder.
#pragma once

#include "harness/golden/golden.h"

namespace assay::harness {

std::vector<GoldenTensor> evaluate_kernel_fixture(const Fixture& fixture);

}  // namespace assay::harness
