// The fixtures that the reference records of itself: every layer, path and init rule, in float32 and bfloat16; small
// ones whole, larger ones and the largest cases of the kernel families as recipes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "harness/golden/golden.h"
#include "harness/golden/recipe_golden.h"
#include "reference/config.h"

namespace assay::harness {

struct GoldenDraft {
  std::string name;  // "mamba2_mixer_train_tiny_bf16": also the file's, with ".json"
  std::function<GoldenFile()> record;  // throws std::logic_error if the result does not pass its own check
};

// A whole fixture above this size is kept as a recipe whose case line is "draft/NAME dtype=..".
inline constexpr std::size_t kWholeBytes = 112 * 1024;
inline constexpr const char* kDraftFamily = "draft";

// The fixture that such a recipe stands for, inputs drawn anew and outputs recorded anew, beside what they are judged by.
// Throws FixtureError if there is no draft of this name, layer and path, or if its config or attributes differ.
struct RebuiltDraft {
  Fixture fixture;
  std::vector<GoldenTensor> judged;
};
RebuiltDraft rebuild_draft(const Recipe& recipe);

// `plain` and `rich`: two small models, the second with every feature on (golden/presets/tiny.json, tiny-all.json).
std::vector<GoldenDraft> golden_drafts(const reference::NemotronV3Config& plain,
                                       const reference::NemotronV3Config& rich);

}  // namespace assay::harness
