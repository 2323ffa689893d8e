// Golden fixtures: JSON of schema 1, one file a case. Reading trusts nothing; writing is atomic.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/call.h"

namespace assay::harness {

struct Fixture {
  std::filesystem::path file;
  std::string name;
  std::string layer;       // "rms_norm", "mamba_rmsnorm_gated", "mamba2_mixer", ...
  std::string path;        // "train", "prefill_decode", "decode", "init"
  nlohmann::ordered_json provenance, config, attributes;
  std::vector<HostTensor> tensors;  // in the order of the file

  const HostTensor* find(std::string_view tensor) const;
  // Throws FixtureError: "FILE: /tensors: no tensor "grad.weight"".
  const HostTensor& tensor(std::string_view name) const;
};

// The text is "FILE: /json/pointer: what is wrong; what is wanted".
struct FixtureError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// read_fixture met a recipe (recipe.h) where it wants tensors.
struct RecipeInsteadError : FixtureError {
  using FixtureError::FixtureError;
};

// Reads and checks: file size and nesting limits, schema, unknown or missing keys, shapes against data, dtypes, every
// value representable in its dtype, NaN nowhere, infinities as the strings "inf" and "-inf" only.
Fixture read_fixture(const std::filesystem::path& file);

// Writes to a temporary file beside `file` and renames it. Values are the shortest decimals that round-trip.
void write_fixture(const Fixture& fixture, const std::filesystem::path& file);
std::string to_json(const Fixture& fixture);

}  // namespace assay::harness
