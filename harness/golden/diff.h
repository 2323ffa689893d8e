// What two fixtures differ in, in lines for a person; empty: nothing but where they came from.
#pragma once

#include <string>
#include <vector>

#include "harness/golden/recipe_golden.h"

namespace assay::harness {

std::vector<std::string> golden_differences(const GoldenFile& before, const GoldenFile& after);

}  // namespace assay::harness
