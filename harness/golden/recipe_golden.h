// Cases too large to keep: recipes, rebuilt from their case line and judged by their samples.
#pragma once

#include <filesystem>
#include <variant>

#include "harness/core/case.h"
#include "harness/core/result.h"
#include "harness/io/recipe.h"

namespace assay::harness {

using GoldenFile = std::variant<Fixture, Recipe>;
GoldenFile read_golden(const std::filesystem::path& file);  // throws FixtureError

// A recorded fixture without its values, for the line that rebuilds it.
Recipe recipe_of(const Fixture& recorded, const Case& line);

// The case as the reference computes it.
Recipe record_recipe(const std::string& name, const Case& c);

// Inputs rebuilt from the line must have the recorded checksums; samples, taken where they belong, are judged as tensors
// are; mean, rms and largest value agree within the tolerance (bfloat16: one rounding).
CaseResult check_recipe(const Recipe& recipe);

// The largest case of each family, forward and backward, and dtype among those of its full tier.
std::vector<Case> recipe_cases();

}  // namespace assay::harness
