#include "harness/io/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "harness/io/element_text.h"
#include "harness/io/file.h"
#include "harness/io/fixture_document.h"

namespace assay::harness {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::string_view kChecksum = "fnv1a64:";

// Bits spread over all 64 (the finaliser of SplitMix64).
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

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

std::vector<std::int64_t> sample_indices(std::int64_t count, std::int64_t most) {
  const std::int64_t n = std::min(count, most);
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

RecipeOutput describe_output(const HostTensor& tensor, std::int64_t samples) {
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
  output.at = sample_indices(tensor.size(), samples);
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

void write_recipe(const Recipe& recipe, const std::filesystem::path& file) {
  try {
    const std::string text = to_json(recipe);
    check_recipe(text);  // nothing is written that could not be read back
    write_file(file, text);
  } catch (const JsonError& error) {
    throw FixtureError(fmt::format("{}: {}", file.string(), error.what()));
  } catch (const FileError& error) {
    throw FixtureError(error.what());
  }
}

}  // namespace assay::harness
