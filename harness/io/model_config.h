// config.json as Hugging Face writes it today and wrote it before, to and from NemotronV3Config.
//
// Read: layers_block_type or layer_types under both vocabularies, hybrid_override_pattern; mtp_layers_block_type, and
// mtp_hybrid_override_pattern, which wins; dtype or torch_dtype; the mamba_* spellings of n_groups, conv_kernel and
// others; infinity as "inf", as the bare Infinity of Python's json, and as {"__float__": "Infinity"} of transformers 5.
// Fields that real files carry and the model does not read are accepted by name; every other field is an error, and so
// are two spellings that disagree.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "reference/config.h"

namespace assay::harness {

// "FILE: /json/pointer: what is wrong; what is wanted".
struct ConfigError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Reads and validates a model's config.json. Throws ConfigError, FileError.
reference::NemotronV3Config read_model_config(const std::filesystem::path& file);

// The same from an object that stands at `pointer` in `file`, such as the "config" of a fixture. It may name few
// fields; the others keep Hugging Face's defaults, so the whole need not be a possible model and is not validated.
reference::NemotronV3Config parse_model_config(const nlohmann::ordered_json& object, const std::filesystem::path& file,
                                               const std::string& pointer = "");

// As Hugging Face writes it, in the vocabulary that both upstreams read. Every field is there.
nlohmann::ordered_json to_json(const reference::NemotronV3Config& config);
void write_model_config(const reference::NemotronV3Config& config, const std::filesystem::path& file);

// golden/presets/NAME.json. Throws ConfigError naming the presets there are.
reference::NemotronV3Config preset(std::string_view name, const std::filesystem::path& golden);
std::vector<std::string> preset_names(const std::filesystem::path& golden);

}  // namespace assay::harness
