#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <set>

#include "harness/core/case.h"
#include "harness/io/element_text.h"
#include "harness/io/fixture_document.h"
#include "harness/io/recipe.h"

namespace assay::harness {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::string_view kChecksum = "fnv1a64:";

[[noreturn]] void fail(const std::string& at, const std::string& what) { throw JsonError(at + ": " + what); }

void want_keys(const Json& object, const std::string& at, const std::set<std::string>& keys) {
  if (!object.is_object()) fail(at, "no object; want one");
  for (const auto& [key, value] : object.items())
    if (!keys.count(key)) fail(at + json_pointer({key}), fmt::format("unknown key; want {}", fmt::join(keys, ", ")));
  for (const std::string& key : keys)
    if (!object.contains(key)) fail(at, fmt::format("no key \"{}\"; want it", key));
}

std::string text_at(const Json& object, const std::string& at, const char* key) {
  if (!object[key].is_string()) fail(at + "/" + key, "no text; want a string");
  return object[key].get<std::string>();
}

double finite_at(const Json& object, const std::string& at, const char* key, double least) {
  const Json& value = object[key];
  if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() < least) {
    fail(at + "/" + key, std::isinf(least) ? "no number; want one" : "no number of 0 or more; want one");
  }
  return value.get<double>();
}

DType dtype_at(const Json& object, const std::string& at) {
  const std::string text = text_at(object, at, "dtype");
  try {
    const DType dtype = dtype_from_name(text);
    if (name(dtype) == text) return dtype;
  } catch (const std::invalid_argument&) {
  }
  fail(at + "/dtype", harness::quoted(text) + " is no dtype; want \"float32\", \"bfloat16\" or another full name");
}

RecipeInput read_input(const std::string& tensor, const Json& object, const std::string& at) {
  want_keys(object, at, {"dtype", "shape", "checksum"});
  RecipeInput input{tensor, dtype_at(object, at), parse_shape(object["shape"], at + "/shape"), 0};
  const std::string text = text_at(object, at, "checksum");
  const std::string digits = text.starts_with(kChecksum) ? text.substr(kChecksum.size()) : "";
  if (digits.size() != 16 || digits.find_first_not_of("0123456789abcdef") != std::string::npos) {
    fail(at + "/checksum", harness::quoted(text) + "; want \"fnv1a64:\" and 16 hexadecimal digits");
  }
  input.checksum = std::stoull(digits, nullptr, 16);
  return input;
}

void read_sample(RecipeOutput& output, const Json& object, const std::string& at) {
  want_keys(object, at, {"at", "data"});
  const Json &indices = object["at"], &data = object["data"];
  if (!indices.is_array() || !data.is_array() || indices.size() != data.size()) {
    fail(at, "at and data of different length; want two lists of one length");
  }
  const std::int64_t count = element_count(output.shape);
  output.sample = make_tensor(output.name, Role::in, output.dtype, {static_cast<std::int64_t>(data.size())});
  for (std::size_t i = 0; i < data.size(); ++i) {
    if (!indices[i].is_number_integer() || indices[i] < 0 || indices[i] >= count ||
        (i > 0 && indices[i] <= output.at.back())) {
      fail(fmt::format("{}/at/{}", at, i), fmt::format("no index; want ascending integers below {}", count));
    }
    output.at.push_back(indices[i].get<std::int64_t>());
    JsonScalar scalar;
    std::string text;
    if (data[i].is_string()) {
      text = data[i].get<std::string>();
      scalar.kind = JsonScalar::Kind::string;
    } else if (data[i].is_number_integer()) {
      scalar.kind = JsonScalar::Kind::integer;
      scalar.integer = data[i].get<std::int64_t>();
    } else if (data[i].is_number()) {
      scalar.kind = JsonScalar::Kind::real;
      scalar.real = data[i].get<double>();
      text = shortest(scalar.real);
    }
    scalar.text = text;
    try {
      parse_element(output.dtype, scalar, output.sample.bytes.data() + i * size_of(output.dtype));
    } catch (const std::invalid_argument& error) {
      fail(fmt::format("{}/data/{}", at, i), error.what());
    }
  }
}

RecipeOutput read_output(const std::string& tensor, const Json& object, const std::string& at) {
  want_keys(object, at, {"dtype", "shape", "mean", "rms", "max_abs", "sample"});
  RecipeOutput output;
  output.name = tensor;
  output.dtype = dtype_at(object, at);
  output.shape = parse_shape(object["shape"], at + "/shape");
  output.mean = finite_at(object, at, "mean", -HUGE_VAL);
  output.rms = finite_at(object, at, "rms", 0);
  output.max_abs = finite_at(object, at, "max_abs", 0);
  read_sample(output, object["sample"], at + "/sample");
  return output;
}

Recipe parse_recipe(FixtureDocument document) {
  if (!document.recipe) fail("/", "no key \"recipe\"; want the recipe of a large case");
  const Json& json = *document.recipe;
  want_keys(json, "/recipe", {"case", "inputs", "outputs"});
  Recipe recipe;
  recipe.head = std::move(document.fixture);
  recipe.case_line = text_at(json, "/recipe", "case");
  try {
    parse_case(recipe.case_line);
  } catch (const std::invalid_argument& error) {
    fail("/recipe/case", error.what());
  }
  const auto each = [&](const char* key, const auto& read, auto& list) {
    if (!json[key].is_object()) fail(fmt::format("/recipe/{}", key), "no object; want tensors by name");
    for (const auto& [tensor, value] : json[key].items()) {
      const std::string at = json_pointer({"recipe", key, tensor});
      check_tensor_name(tensor, recipe.head.layer, at);
      list.push_back(read(tensor, value, at));
    }
  };
  each("inputs", read_input, recipe.inputs);
  each("outputs", read_output, recipe.outputs);
  return recipe;
}

}  // namespace

void check_recipe(std::string_view text) { parse_recipe(parse_fixture_document(text)); }

Recipe read_recipe(const std::filesystem::path& file) {
  FixtureDocument document = read_fixture_document(file);
  try {
    return parse_recipe(std::move(document));
  } catch (const JsonError& error) {
    throw FixtureError(fmt::format("{}: {}", file.string(), error.what()));
  }
}

}  // namespace assay::harness
