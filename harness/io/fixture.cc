#include "harness/io/fixture.h"

#include <fmt/format.h>

#include <algorithm>

#include "harness/io/element_text.h"
#include "harness/io/file.h"
#include "harness/io/fixture_document.h"

namespace assay::harness {
namespace {

void append_tensor(std::string& text, const HostTensor& tensor, const std::string& pointer) {
  const std::int64_t size = element_count(tensor.shape);
  const std::size_t width = size_of(tensor.dtype);
  if (tensor.bytes.size() != static_cast<std::size_t>(size) * width) {
    throw JsonError(pointer + ": " + std::to_string(tensor.bytes.size()) + " bytes; want " +
                    std::to_string(static_cast<std::size_t>(size) * width) + " for shape " + to_string(tensor.shape));
  }
  text += nlohmann::json(tensor.name).dump() + ":{\"dtype\":\"" + std::string(name(tensor.dtype)) +
          "\",\"shape\":" + nlohmann::json(tensor.shape).dump() + ",\"data\":[";
  for (std::int64_t i = 0; i < size; ++i) {
    if (i > 0) text += ',';
    try {
      append_element(text, tensor.dtype, tensor.bytes.data() + static_cast<std::size_t>(i) * width);
    } catch (const std::invalid_argument& error) {
      throw JsonError(pointer + "/data/" + std::to_string(i) + ": " + error.what());
    }
  }
  text += "]}";
}

}  // namespace

const HostTensor* Fixture::find(std::string_view tensor) const {
  const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const HostTensor& t) { return t.name == tensor; });
  return it == tensors.end() ? nullptr : &*it;
}

const HostTensor& Fixture::tensor(std::string_view wanted) const {
  if (const HostTensor* found = find(wanted)) return *found;
  throw FixtureError(fmt::format("{}: /tensors: no tensor \"{}\"; want it for layer {}", file.string(), wanted, layer));
}

Fixture read_fixture(const std::filesystem::path& file) {
  FixtureDocument document = read_fixture_document(file);
  if (document.recipe) throw RecipeInsteadError(file.string() + ": /recipe: the recipe of a large case; want tensors");
  return std::move(document.fixture);
}

std::string to_json(const Fixture& fixture) {
  try {
    std::string text = open_document(fixture, "tensors") + "{";
    for (std::size_t i = 0; i < fixture.tensors.size(); ++i) {
      const HostTensor& tensor = fixture.tensors[i];
      const std::string pointer = json_pointer({"tensors", tensor.name});
      check_tensor_name(tensor.name, fixture.layer, pointer);
      if (fixture.find(tensor.name) != &tensor) throw JsonError(pointer + ": the name appears twice; want it once");
      if (i > 0) text += ',';
      append_tensor(text, tensor, pointer);
    }
    return text + "}}";
  } catch (const JsonError& error) {
    throw FixtureError(fixture.name + ": " + error.what());
  }
}

void write_fixture(const Fixture& fixture, const std::filesystem::path& file) {
  const std::string text = to_json(fixture);
  try {
    parse_fixture_document(text);  // nothing is written that could not be read back
    write_file(file, text);
  } catch (const JsonError& error) {
    throw FixtureError(file.string() + ": " + error.what());
  } catch (const FileError& error) {
    throw FixtureError(error.what());
  }
}

}  // namespace assay::harness
