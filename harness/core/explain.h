// A verdict in words.
#pragma once

#include <string>

#include "harness/core/result.h"

namespace assay::harness {

// "grad.weight: 3 of 96 elements beyond their limit; the worst at width=17: got 1.25, want 1.5, limit 0.0039; the last
// width only. Likely: ..."
std::string explain(const TensorResult& tensor);

}  // namespace assay::harness
