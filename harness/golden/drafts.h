// The fixtures that the reference records of itself: every layer, path and init rule, in float32 and bfloat16; small
// ones whole, the largest cases of the kernel families as recipes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "harness/golden/recipe_golden.h"
#include "reference/config.h"

namespace assay::harness {

struct GoldenDraft {
  std::string name;  // "mamba2_mixer_train_tiny_bf16": also the file's, with ".json"
  std::function<GoldenFile()> record;
};

// `plain` and `rich`: two small models, the second with every feature on (golden/presets/tiny.json, tiny-all.json).
std::vector<GoldenDraft> golden_drafts(const reference::NemotronV3Config& plain,
                                       const reference::NemotronV3Config& rich);

}  // namespace assay::harness
