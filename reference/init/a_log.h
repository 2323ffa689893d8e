// A_log: ln 1, ln 2, ..., ln H in float32, so that A = -exp(A_log) is -1, ..., -H.
#pragma once

#include <cstdint>

#include "reference/elementary.h"

namespace assay::reference {

inline float a_log(std::int64_t head) { return static_cast<float>(log(static_cast<double>(head + 1))); }

}  // namespace assay::reference
