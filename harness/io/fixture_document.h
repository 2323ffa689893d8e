// A fixture file as a document: the parser that files with tensors and files with a recipe share. Private to io.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "harness/io/fixture.h"
#include "harness/io/strict_json.h"
#include "harness/io/tensor_parser.h"

namespace assay::harness {

struct FixtureDocument {
  Fixture fixture;
  std::optional<nlohmann::ordered_json> recipe;  // in the place of "tensors"
};

// Reads and checks all but the recipe's content. Throws FixtureError.
FixtureDocument read_fixture_document(const std::filesystem::path& file);
FixtureDocument parse_fixture_document(std::string_view text);  // throws JsonError

void check_recipe(std::string_view text);  // throws JsonError

// Shared checks and spellings.
Shape parse_shape(const nlohmann::ordered_json& value, const std::string& pointer);  // throws JsonError
void check_tensor_name(std::string_view name, std::string_view layer, const std::string& pointer);
// The document up to and including the key of its last member, "tensors" or "recipe".
std::string open_document(const Fixture& fixture, std::string_view last_key);

}  // namespace assay::harness
