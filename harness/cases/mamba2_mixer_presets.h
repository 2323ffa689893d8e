// The sizes of the mixers of golden/presets, which a case line names: a case is rebuilt from its line alone.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "reference/config.h"

namespace assay::harness {

std::vector<std::string> mixer_presets();
// The fields that a mixer reads; the others are the defaults. Throws std::invalid_argument naming the known ones.
reference::NemotronV3Config mixer_preset(std::string_view name);

}  // namespace assay::harness
