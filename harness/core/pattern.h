// Where failing elements lie, in words: "row 3 only", "last width", "every 8th width, from 7", "all".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "harness/core/call.h"

namespace assay::harness {

// "rows=3 width=17" for a flat, row-major index.
std::string axis_position(std::int64_t flat, const Shape& shape, const std::vector<std::string>& axes);

// `failing` holds flat indices in increasing order, at least one.
std::string describe_pattern(std::span<const std::int64_t> failing, const Shape& shape,
                             const std::vector<std::string>& axes);

}  // namespace assay::harness
