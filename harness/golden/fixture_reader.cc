#include "harness/golden/fixture_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "harness/io/model_config.h"
#include "reference/init/parameter_specs.h"

namespace assay::harness {
namespace {

using reference::BlockType;
using reference::NemotronV3Config;

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (const Index size : shape) text += (text.size() > 1 ? ", " : "") + (size == kAny ? "any" : std::to_string(size));
  return text + "]";
}

bool matches(const Shape& shape, const Shape& wanted) {
  return std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end(),
                    [](Index size, Index want) { return want == kAny || size == want; });
}

std::string tensor_pointer(std::string_view name) { return "/tensors/" + std::string(name); }

// Where an infinity has a meaning: a masked score, and a decay of 0 (A_log = -inf) or of everything (A = -inf).
bool may_be_infinite(std::string_view name) {
  return name == "input.attention_mask" || name == "input.A" || name.ends_with("A_log");
}

std::vector<FixtureReader::NamedShape> shapes_below(const NemotronV3Config& config, const std::string& prefix) {
  std::vector<FixtureReader::NamedShape> result;
  for (const reference::ParameterSpec& spec : reference::parameter_specs(config))
    if (spec.name.starts_with(prefix))
      result.push_back({.name = spec.name.substr(prefix.size()),
                        .shape = Shape(spec.shape.begin(), spec.shape.end()),
                        .is_buffer = spec.flags.is_buffer,
                        .in_float32 = reference::is_kept_in_float32(spec.name)});
  return result;
}

}  // namespace

FixtureReader::FixtureReader(const Fixture& fixture) : fixture_(fixture) {
  const reference::ModelDtype dtype = parsed_config().torch_dtype;
  if (dtype == reference::ModelDtype::float64) fail("/config/dtype", "float64; want float32 or bfloat16");
  model_ = dtype == reference::ModelDtype::bfloat16 ? DType::bfloat16 : DType::float32;
}

FixtureReader::FixtureReader(const Fixture& fixture, std::string_view model_tensor) : fixture_(fixture) {
  const HostTensor& t = fixture.tensor(model_tensor);
  if (t.dtype != DType::float32 && t.dtype != DType::bfloat16)
    fail(tensor_pointer(model_tensor) + "/dtype", fmt::format("{}; want float32 or bfloat16", name(t.dtype)));
  model_ = t.dtype;
  for (const char* key : {"dtype", "torch_dtype"})
    if (const auto named = fixture.config.find(key); named != fixture.config.end() && *named != name(model_))
      fail(std::string("/config/") + key,
           fmt::format("{}, but {} is {}; want both equal", named->dump(), model_tensor, name(model_)));
}

void FixtureReader::fail(const std::string& pointer, const std::string& text) const {
  throw FixtureError(fmt::format("{}: {}: {}", fixture_.file.string(), pointer, text));
}

NemotronV3Config FixtureReader::parsed_config() const {
  try {
    return parse_model_config(fixture_.config, fixture_.file, "/config");
  } catch (const ConfigError& error) {
    throw FixtureError(error.what());
  }
}

void FixtureReader::validate(const NemotronV3Config& config) const {
  try {
    config.validate();
  } catch (const std::invalid_argument& error) {
    fail("/config", error.what());
  }
}

NemotronV3Config FixtureReader::config() const {
  const NemotronV3Config config = parsed_config();
  validate(config);
  return config;
}

NemotronV3Config FixtureReader::config(BlockType layer) const {
  NemotronV3Config config = parsed_config();
  config.layers_block_type = {layer};
  config.num_nextn_predict_layers = 0;
  validate(config);
  return config;
}

const nlohmann::ordered_json* FixtureReader::attribute(const std::string& name) {
  known_attributes_.insert(name);
  const auto it = fixture_.attributes.find(name);
  return it == fixture_.attributes.end() ? nullptr : &*it;
}

Index FixtureReader::integer(const std::string& name, Index low, Index high) {
  const auto* value = attribute(name);
  const std::string pointer = "/attributes/" + name, want = fmt::format("want an integer in {} .. {}", low, high);
  if (!value) fail(pointer, "missing; " + want);
  const bool fits =
      value->is_number_integer() && !(value->is_number_unsigned() && value->get<std::uint64_t>() > INT64_MAX);
  if (!fits || value->get<Index>() < low || value->get<Index>() > high) fail(pointer, value->dump() + "; " + want);
  return value->get<Index>();
}

double FixtureReader::number(const std::string& name) {
  const auto* value = attribute(name);
  const std::string pointer = "/attributes/" + name;
  if (!value) fail(pointer, "missing; want a number");
  if (!value->is_number() || !std::isfinite(value->get<double>()))
    fail(pointer, value->dump() + "; want a finite number");
  return value->get<double>();
}

bool FixtureReader::boolean(const std::string& name, std::optional<bool> if_absent) {
  const auto* value = attribute(name);
  if (!value && if_absent) return *if_absent;
  const std::string pointer = "/attributes/" + name;
  if (!value) fail(pointer, "missing; want true or false");
  if (!value->is_boolean()) fail(pointer, value->dump() + "; want true or false");
  return value->get<bool>();
}

const HostTensor& FixtureReader::checked(const HostTensor& t, Dtypes dtypes, const Shape& shape) {
  known_tensors_.insert(t.name);
  const std::string pointer = tensor_pointer(t.name);
  const auto want = [&](bool fits, std::string_view text) {
    if (!fits) fail(pointer + "/dtype", fmt::format("{}; want {}", name(t.dtype), text));
  };
  const bool is_float = t.dtype == DType::float32 || t.dtype == DType::bfloat16;
  switch (dtypes) {
    case Dtypes::model:
      want(t.dtype == model_, fmt::format("the model's {}", name(model_)));
      break;
    case Dtypes::float32:
      want(t.dtype == DType::float32, "float32");
      break;
    case Dtypes::model_or_float32:
      want(t.dtype == model_ || t.dtype == DType::float32, fmt::format("the model's {} or float32", name(model_)));
      break;
    case Dtypes::floating:
      want(is_float, "float32 or bfloat16");
      break;
    case Dtypes::whole:
      want(t.dtype == DType::int64 || t.dtype == DType::int32, "int64 or int32");
      break;
    case Dtypes::mask:
      want(!is_floating(t.dtype), "bool, uint8, int32 or int64");
      break;
    case Dtypes::any:
      break;
  }
  if (!matches(t.shape, shape))
    fail(pointer + "/shape", fmt::format("{}; want {}", to_string(t.shape), shape_text(shape)));
  for (Index i = 0; has_values(t) && i < t.size(); ++i) {
    const double value = t.at(i);
    const std::string at = fmt::format("{}/data/{}", pointer, i);
    if (dtypes == Dtypes::mask && value != 0 && value != 1) fail(at, fmt::format("{}; want 0 or 1", value));
    if (!std::isfinite(value) && !(may_be_infinite(t.name) && value < 0)) fail(at, "not finite; want a finite number");
  }
  return t;
}

const HostTensor& FixtureReader::require(const std::string& name, Dtypes dtypes, const Shape& shape) {
  return checked(fixture_.tensor(name), dtypes, shape);
}

const HostTensor* FixtureReader::allow(const std::string& name, Dtypes dtypes, const Shape& shape) {
  const HostTensor* t = fixture_.find(name);
  return t ? &checked(*t, dtypes, shape) : nullptr;
}

Shape FixtureReader::hidden_states(Index width, bool packed) {
  const HostTensor& given = fixture_.tensor("input.hidden_states");
  const bool is_packed = packed && given.shape.size() == 2;
  const Shape shape =
      require("input.hidden_states", Dtypes::model, is_packed ? Shape{kAny, width} : Shape{kAny, kAny, width}).shape;
  require("output.hidden_states", Dtypes::model_or_float32, shape);
  allow("grad.input.hidden_states", Dtypes::model_or_float32, shape);
  if (has_gradients()) require("grad.output.hidden_states", Dtypes::model_or_float32, shape);
  return shape;
}

void FixtureReader::parameters(const std::vector<NamedShape>& wanted) {
  for (const NamedShape& p : wanted) {
    const Dtypes dtypes = p.in_float32 ? Dtypes::float32 : Dtypes::model;
    require((p.is_buffer ? "buffer." : "param.") + p.name, dtypes, p.shape);
    if (!p.is_buffer) allow("grad." + p.name, dtypes, p.shape);
  }
}

void FixtureReader::check_range(const std::string& name, Index end, std::optional<Index> other) const {
  const HostTensor& t = fixture_.tensor(name);
  for (Index i = 0; has_values(t) && i < t.size(); ++i) {
    const auto value = static_cast<Index>(t.at(i));
    if ((value >= 0 && value < end) || value == other) continue;
    fail(fmt::format("{}/data/{}", tensor_pointer(name), i),
         fmt::format("{}; want 0 .. {}{}", value, end - 1, other ? fmt::format(" or {}", *other) : ""));
  }
}

bool FixtureReader::has_gradients() const {
  return std::any_of(fixture_.tensors.begin(), fixture_.tensors.end(),
                     [](const HostTensor& t) { return t.name.starts_with("grad."); });
}

void FixtureReader::finish() const {
  for (const HostTensor& t : fixture_.tensors)
    if (!known_tensors_.contains(t.name))
      fail(tensor_pointer(t.name),
           fmt::format("unknown; {} on the path {} has no such tensor", fixture_.layer, fixture_.path));
  for (const auto& [key, value] : fixture_.attributes.items())
    if (key != "note" && !known_attributes_.contains(key))
      fail("/attributes/" + key,
           fmt::format("unknown; {} on the path {} has no such attribute", fixture_.layer, fixture_.path));
}

bool has_values(const HostTensor& t) { return t.size() == 0 || !t.bytes.empty(); }

std::vector<double> values_or(const HostTensor& t, const std::vector<double>& own) {
  if (has_values(t)) return t.to_double();
  std::vector<double> values;
  for (const double value : own) values.push_back(is_floating(t.dtype) ? round_to(t.dtype, value) : value);
  return values;
}

bool is_expected(std::string_view tensor) {
  for (const std::string_view step : {"decode.", "step."})
    if (tensor.starts_with(step)) tensor = tensor.substr(std::min(tensor.size(), tensor.find('.', step.size()) + 1));
  for (const std::string_view prefix : {"output.", "constructor.", "init.", "generate.output_ids", "generate.logits"})
    if (tensor.starts_with(prefix)) return true;
  return tensor.starts_with("grad.") && !tensor.starts_with("grad.output.");
}

std::vector<FixtureReader::NamedShape> mixer_shapes(const NemotronV3Config& config, BlockType type,
                                                    const std::string& below) {
  NemotronV3Config one = config;
  one.layers_block_type = {type};
  one.num_nextn_predict_layers = 0;
  return shapes_below(one, reference::backbone_prefix(0) + below);
}

std::vector<FixtureReader::NamedShape> model_shapes(const NemotronV3Config& config) { return shapes_below(config, ""); }

}  // namespace assay::harness
