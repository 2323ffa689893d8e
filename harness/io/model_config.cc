#include "harness/io/model_config.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "harness/io/file.h"
#include "harness/io/model_config_fields.h"
#include "harness/io/strict_json.h"

namespace assay::harness {
namespace {

using nlohmann::ordered_json;
using reference::BlockType;
using reference::ModelDtype;
using Config = reference::NemotronV3Config;

constexpr std::size_t kMaxConfigBytes = std::size_t{16} << 20;

// A few characters of a value, for a message.
std::string shown(const ordered_json& value) {
  return harness::quoted(value.is_string() ? value.get<std::string>()
                                           : value.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// Python's json writes bare NaN, Infinity and -Infinity, which JSON does not have: they become strings.
std::string quote_bare_constants(std::string_view text) {
  std::string result;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size();) {
    if (!in_string) {
      const auto is_constant = [&](std::string_view word) { return text.substr(i, word.size()) == word; };
      const std::string_view words[] = {"-Infinity", "Infinity", "NaN"};
      const auto word = std::ranges::find_if(words, is_constant);
      if (word != std::end(words)) {
        result += '"' + std::string(*word) + '"';
        i += word->size();
        continue;
      }
    }
    if (in_string && text[i] == '\\' && i + 1 < text.size())
      result += text[i++];
    else if (text[i] == '"')
      in_string = !in_string;
    result += text[i++];
  }
  return result;
}

class Reader {
 public:
  Reader(const ordered_json& object, const std::filesystem::path& file, std::string pointer)
      : object_(object), file_(file.string()), pointer_(std::move(pointer)) {}

  Config read() {
    if (!object_.is_object()) fail_at(pointer_, "is " + std::string(object_.type_name()) + "; want an object");
    require_known_fields();
    require_model_type();
    for (const ConfigField& field : config_fields()) read_field(field);
    read_dtype();
    read_layers();
    read_mtp_layers();
    read_time_step_limit();
    require_one_epsilon();
    return config_;
  }

 private:
  [[noreturn]] void fail_at(const std::string& pointer, const std::string& what) const {
    throw ConfigError(file_ + ": " + (pointer.empty() ? "" : pointer + ": ") + what);
  }
  [[noreturn]] void fail(std::string_view field, const std::string& what) const {
    fail_at(pointer_ + json_pointer({field}), what);
  }

  void require_known_fields() const {
    const std::string_view special[] = {"model_type",         "dtype",
                                        "layers_block_type",  "hybrid_override_pattern",
                                        "num_hidden_layers",  "mtp_layers_block_type",
                                        "time_step_limit",    "mtp_hybrid_override_pattern",
                                        "norm_eps",           "rms_norm_eps",
                                        "quantization_config"};
    const auto is_in = [](const auto& names, std::string_view key, auto projection) {
      return std::ranges::find(names, key, projection) != std::end(names);
    };
    for (const auto& [key, value] : object_.items()) {
      if (is_in(config_fields(), key, &ConfigField::name) || is_in(other_spellings(), key, &Spelling::other) ||
          is_in(unread_fields(), key, std::identity{}) || is_in(special, key, std::identity{}))
        continue;
      fail(key, "unknown field; want none but those of a NemotronH config.json");
    }
    if (const ordered_json* quantization = member("quantization_config"); quantization && !quantization->is_null())
      fail("quantization_config", "is there; want a model that is not quantised");
  }

  void require_model_type() const {
    const ordered_json* type = member("model_type");
    if (type && *type != "nemotron_h") fail("model_type", "is " + shown(*type) + "; want \"nemotron_h\"");
  }

  const ordered_json* member(std::string_view key) const {
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }

  // The value of a field under any of its spellings, and the one that it has. Spellings that disagree are an error.
  struct Found {
    std::string key;
    const ordered_json* value;
  };
  std::optional<Found> find(std::string_view name) const {
    std::optional<Found> found;
    const auto look = [&](std::string_view key) {
      const ordered_json* value = member(key);
      if (!value) return;
      if (found && *found->value != *value)
        fail(key, "is " + shown(*value) + ", but " + pointer_ + json_pointer({found->key}) + " is " +
                      shown(*found->value) + "; want one of them, or both equal");
      if (!found) found = Found{std::string(key), value};
    };
    look(name);
    for (const Spelling& spelling : other_spellings())
      if (spelling.name == name) look(spelling.other);
    return found;
  }

  double number(const std::string& pointer, const ordered_json& value) const {
    if (value.is_number()) return value.get<double>();
    if (value.is_object() && value.size() == 1 && value.contains("__float__"))
      return number(pointer + "/__float__", value.at("__float__"));
    if (value.is_string()) {
      const auto text = value.get<std::string>();
      if (text == "inf" || text == "Infinity" || text == "+inf") return HUGE_VAL;
      if (text == "-inf" || text == "-Infinity") return -HUGE_VAL;
    }
    fail_at(pointer, "is " + shown(value) + "; want a number");
  }

  void set(const Found& found, Config::Index& member) const {
    if (!found.value->is_number_integer()) fail(found.key, "is " + shown(*found.value) + "; want an integer");
    if (found.value->is_number_unsigned() && found.value->get<std::uint64_t>() > INT64_MAX)
      fail(found.key, "is " + shown(*found.value) + "; want at most 2^63 - 1");
    member = found.value->get<Config::Index>();
  }
  void set(const Found& found, double& member) const {
    member = number(pointer_ + json_pointer({found.key}), *found.value);
  }
  void set(const Found& found, bool& member) const {
    if (!found.value->is_boolean()) fail(found.key, "is " + shown(*found.value) + "; want true or false");
    member = found.value->get<bool>();
  }
  void set(const Found& found, std::string& member) const {
    if (!found.value->is_string()) fail(found.key, "is " + shown(*found.value) + "; want a string");
    member = found.value->get<std::string>();
  }

  void read_field(const ConfigField& field) {
    const std::optional<Found> found = find(field.name);
    if (!found) return;
    std::visit(
        [&](auto pointer) {
          auto& member = config_.*pointer;
          using Member = std::remove_reference_t<decltype(member)>;
          if constexpr (!std::is_same_v<Member, std::string>) {
            if (found->value->is_null() && field.null) {
              member = static_cast<Member>(*field.null);
              return;
            }
          }
          // Multi-head attention under its older spelling.
          if constexpr (std::is_same_v<Member, Config::Index>) {
            if (found->value->is_null() && field.name == "num_key_value_heads") {
              member = config_.num_attention_heads;
              return;
            }
          }
          set(*found, member);
        },
        field.member);
  }

  void read_dtype() {
    const std::optional<Found> found = find("dtype");
    if (!found || found->value->is_null()) return;
    std::string text;
    set(*found, text);
    for (const ModelDtype dtype : {ModelDtype::float32, ModelDtype::bfloat16, ModelDtype::float64}) {
      if (text != name(dtype)) continue;
      config_.torch_dtype = dtype;
      return;
    }
    fail(found->key, "is " + harness::quoted(text) + "; want \"bfloat16\", \"float32\" or \"float64\"");
  }

  BlockType block_type(const std::string& pointer, const ordered_json& value) const {
    static const std::pair<std::string_view, BlockType> kNames[] = {{"mamba", BlockType::mamba},
                                                                    {"linear_attention", BlockType::mamba},
                                                                    {"attention", BlockType::attention},
                                                                    {"full_attention", BlockType::attention},
                                                                    {"mlp", BlockType::mlp},
                                                                    {"moe", BlockType::moe}};
    for (const auto& [text, type] : kNames)
      if (value == text) return type;
    fail_at(pointer, "is " + shown(value) + "; want \"mamba\" or \"linear_attention\", \"attention\" or " +
                         "\"full_attention\", \"mlp\" or \"moe\"");
  }

  using Blocks = std::vector<BlockType>;
  std::optional<Blocks> block_list(std::string_view name) const {
    const std::optional<Found> found = find(name);
    if (!found || found->value->is_null()) return std::nullopt;
    const std::string pointer = pointer_ + json_pointer({found->key});
    if (!found->value->is_array()) fail_at(pointer, "is " + shown(*found->value) + "; want a list of block types");
    Blocks blocks;
    for (const ordered_json& value : *found->value)
      blocks.push_back(block_type(pointer + "/" + std::to_string(blocks.size()), value));
    return blocks;
  }
  std::optional<Blocks> pattern(std::string_view name) const {
    const ordered_json* value = member(name);
    if (!value || value->is_null()) return std::nullopt;
    if (!value->is_string()) fail(name, "is " + shown(*value) + "; want a string over M, *, - and E");
    try {
      return reference::parse_pattern(value->get<std::string>());
    } catch (const std::invalid_argument& error) {
      fail(name, error.what());
    }
  }

  void read_layers() {
    const std::optional<Blocks> list = block_list("layers_block_type"), text = pattern("hybrid_override_pattern");
    if (list && text && *list != *text)
      fail("hybrid_override_pattern",
           "says " + harness::quoted(reference::to_pattern(*text)) + ", but the list of block types " +
               harness::quoted(reference::to_pattern(*list)) + "; want one of them, or both equal");
    if (list) config_.layers_block_type = *list;
    if (text) config_.layers_block_type = *text;
    const ordered_json* count = member("num_hidden_layers");
    if (!count || count->is_null()) return;
    Config::Index layers = 0;
    set({"num_hidden_layers", count}, layers);
    if (layers != config_.num_hidden_layers())
      fail("num_hidden_layers", "is " + std::to_string(layers) + ", but the list of block types has " +
                                    std::to_string(config_.num_hidden_layers()) + "; want both equal");
  }

  void read_mtp_layers() {
    const std::optional<Blocks> list = block_list("mtp_layers_block_type"),
                                text = pattern("mtp_hybrid_override_pattern");
    if (list) config_.mtp_layers_block_type = *list;
    if (text) config_.mtp_layers_block_type = *text;  // upstream: the string wins
  }

  void read_time_step_limit() {
    const std::optional<Found> found = find("time_step_limit");
    if (!found || found->value->is_null()) return;
    const std::string pointer = pointer_ + json_pointer({found->key});
    if (!found->value->is_array() || found->value->size() != 2)
      fail_at(pointer, "is " + shown(*found->value) + "; want [low, high]");
    for (std::size_t i = 0; i < 2; ++i)
      config_.time_step_limit[i] = number(pointer + "/" + std::to_string(i), (*found->value)[i]);
  }

  // Older files name the epsilon twice; upstream reads layer_norm_epsilon.
  void require_one_epsilon() const {
    for (const char* other : {"norm_eps", "rms_norm_eps"}) {
      const ordered_json* value = member(other);
      if (!value || number(pointer_ + json_pointer({other}), *value) == config_.layer_norm_epsilon) continue;
      fail(other, "is " + shown(*value) + ", but layer_norm_epsilon, which the model reads, is " +
                      ordered_json(config_.layer_norm_epsilon).dump() + "; want both equal");
    }
  }

  const ordered_json& object_;
  std::string file_, pointer_;
  Config config_;
};

ordered_json infinity_as_transformers_writes_it() { return {{"__float__", "Infinity"}}; }

}  // namespace

Config parse_model_config(const ordered_json& object, const std::filesystem::path& file, const std::string& pointer) {
  return Reader(object, file, pointer).read();
}

Config read_model_config(const std::filesystem::path& file) {
  const std::string text = quote_bare_constants(read_file(file, kMaxConfigBytes));
  ordered_json document;
  try {
    document = parse_json(text);
  } catch (const JsonError& error) {
    throw ConfigError(file.string() + ": " + error.what());
  }
  const Config config = parse_model_config(document, file);
  const auto names_layers = [&](const char* key) { return document.contains(key) && !document.at(key).is_null(); };
  if (!names_layers("layers_block_type") && !names_layers("layer_types") && !names_layers("hybrid_override_pattern"))
    throw ConfigError(file.string() + ": /layers_block_type: is missing; want the list of block types, or " +
                      "hybrid_override_pattern");
  try {
    config.validate();
  } catch (const std::invalid_argument& error) {
    throw ConfigError(file.string() + ": " + error.what());
  }
  return config;
}

ordered_json to_json(const Config& config) {
  ordered_json json = {{"architectures", {"NemotronHForCausalLM"}}, {"model_type", "nemotron_h"}};
  json["dtype"] = name(config.torch_dtype);
  json["num_hidden_layers"] = config.num_hidden_layers();
  const auto names = [](const std::vector<BlockType>& types) {
    ordered_json list = ordered_json::array();
    for (const BlockType type : types) list.push_back(name(type));
    return list;
  };
  json["layers_block_type"] = names(config.layers_block_type);
  json["mtp_layers_block_type"] = names(config.mtp_layers_block_type);
  ordered_json& limit = json["time_step_limit"] = ordered_json::array();
  for (const double bound : config.time_step_limit)
    limit.push_back(std::isinf(bound) ? infinity_as_transformers_writes_it() : ordered_json(bound));
  for (const ConfigField& field : config_fields())
    std::visit([&](auto pointer) { json[std::string(field.name)] = config.*pointer; }, field.member);
  if (config.moe_latent_size == 0) json["moe_latent_size"] = nullptr;
  if (config.n_routed_experts == 0) json["n_routed_experts"] = nullptr;
  return json;
}

void write_model_config(const Config& config, const std::filesystem::path& file) {
  write_file(file, to_json(config).dump(2) + "\n");
}

std::vector<std::string> preset_names(const std::filesystem::path& golden) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(golden / "presets", error))
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  if (error) throw ConfigError((golden / "presets").string() + ": " + error.message() + "; want the folder of presets");
  std::ranges::sort(names);
  return names;
}

Config preset(std::string_view name, const std::filesystem::path& golden) {
  const std::vector<std::string> names = preset_names(golden);
  if (std::ranges::find(names, name) == names.end())
    throw ConfigError("preset " + harness::quoted(name) + " is unknown; want one of " + listed(names));
  return read_model_config(golden / "presets" / (std::string(name) + ".json"));
}

}  // namespace assay::harness
