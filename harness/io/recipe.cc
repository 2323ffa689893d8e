#include "harness/io/recipe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "harness/core/case.h"
#include "harness/io/element_text.h"
#include "harness/io/file.h"
#include "harness/io/fixture_document.h"

namespace assay::harness {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::int64_t kSamples = 256;
constexpr std::string_view kChecksum = "fnv1a64:";

// Bits spread over all 64 (the finaliser of SplitMix64).
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

[[noreturn]] void fail(const std::string& at, const std::string& what) { throw JsonError(at + ": " + what); }

// ---- reading
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

// ---- writing
std::string dtype_and_shape(DType dtype, const Shape& shape) {
  return fmt::format("{{\"dtype\":\"{}\",\"shape\":{}", name(dtype), Json(shape).dump());
}

std::string text_of(const RecipeOutput& output) {
  std::string data;
  for (std::size_t i = 0; i < output.at.size(); ++i) {
    if (i > 0) data += ',';
    append_element(data, output.dtype, output.sample.bytes.data() + i * size_of(output.dtype));
  }
  return fmt::format("{},\"mean\":{},\"rms\":{},\"max_abs\":{},\"sample\":{{\"at\":{},\"data\":[{}]}}}}",
                     dtype_and_shape(output.dtype, output.shape), shortest(output.mean), shortest(output.rms),
                     shortest(output.max_abs), Json(output.at).dump(), data);
}

}  // namespace

std::uint64_t checksum(const HostTensor& tensor) {
  std::uint64_t hash = 0xCBF29CE484222325;
  for (const std::byte b : tensor.bytes) hash = (hash ^ std::to_integer<std::uint64_t>(b)) * 0x100000001B3;
  return hash;
}

std::vector<std::int64_t> sample_indices(std::int64_t count) {
  const std::int64_t n = std::min(count, kSamples);
  std::vector<std::int64_t> result;
  const auto strip = [&](std::int64_t k) { return k * (count / n) + k * (count % n) / n; };
  for (std::int64_t k = 0; k < n; ++k) {  // one from each of n strips of about equal length
    const std::int64_t begin = strip(k), end = strip(k + 1);
    const auto within = mixed(static_cast<std::uint64_t>(k)) % static_cast<std::uint64_t>(end - begin);
    result.push_back(k == 0 ? 0 : k == n - 1 ? count - 1 : begin + static_cast<std::int64_t>(within));
  }
  return result;
}

RecipeInput describe_input(const HostTensor& tensor) {
  return {tensor.name, tensor.dtype, tensor.shape, checksum(tensor)};
}

RecipeOutput describe_output(const HostTensor& tensor) {
  RecipeOutput output;
  output.name = tensor.name;
  output.dtype = tensor.dtype;
  output.shape = tensor.shape;
  double sum = 0, squares = 0;
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    const double v = tensor.at(i);
    if (!std::isfinite(v))
      throw FixtureError(fmt::format("{}: element {} is {}; want finite values", tensor.name, i, shortest(v)));
    sum += v;
    squares += v * v;
    output.max_abs = std::max(output.max_abs, std::fabs(v));
  }
  const auto count = static_cast<double>(std::max<std::int64_t>(tensor.size(), 1));
  output.mean = sum / count;
  output.rms = std::sqrt(squares / count);
  output.at = sample_indices(tensor.size());
  output.sample = make_tensor(tensor.name, Role::in, tensor.dtype, {static_cast<std::int64_t>(output.at.size())});
  const std::size_t width = size_of(tensor.dtype);
  for (std::size_t i = 0; i < output.at.size(); ++i) {
    std::copy_n(tensor.bytes.begin() + output.at[i] * static_cast<std::int64_t>(width), width,
                output.sample.bytes.begin() + static_cast<std::int64_t>(i * width));
  }
  return output;
}

std::string to_json(const Recipe& recipe) {
  std::string inputs, outputs;
  for (const RecipeInput& input : recipe.inputs) {
    inputs += fmt::format("{}{}:{},\"checksum\":\"{}{:016x}\"}}", inputs.empty() ? "" : ",", Json(input.name).dump(),
                          dtype_and_shape(input.dtype, input.shape), kChecksum, input.checksum);
  }
  for (const RecipeOutput& output : recipe.outputs) {
    outputs += fmt::format("{}{}:{}", outputs.empty() ? "" : ",", Json(output.name).dump(), text_of(output));
  }
  return fmt::format("{}{{\"case\":{},\"inputs\":{{{}}},\"outputs\":{{{}}}}}}}", open_document(recipe.head, "recipe"),
                     Json(recipe.case_line).dump(), inputs, outputs);
}

Recipe read_recipe(const std::filesystem::path& file) {
  FixtureDocument document = read_fixture_document(file);
  try {
    return parse_recipe(std::move(document));
  } catch (const JsonError& error) {
    throw FixtureError(fmt::format("{}: {}", file.string(), error.what()));
  }
}

void write_recipe(const Recipe& recipe, const std::filesystem::path& file) {
  try {
    const std::string text = to_json(recipe);
    parse_recipe(parse_fixture_document(text));  // nothing is written that could not be read back
    write_file(file, text);
  } catch (const JsonError& error) {
    throw FixtureError(fmt::format("{}: {}", file.string(), error.what()));
  } catch (const FileError& error) {
    throw FixtureError(error.what());
  }
}

}  // namespace assay::harness
