#include "reference/testing/fixture.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <stdexcept>

namespace assay::reference::testing {
namespace {

double number(const nlohmann::json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>();
  const std::string text = value.is_object() ? value.at("__float__").get<std::string>() : value.get<std::string>();
  const double sign = text.front() == '-' ? -1 : 1;
  return text == "nan" ? std::nan("") : sign * std::numeric_limits<double>::infinity();
}

BlockType block_type(const std::string& type) {
  if (type == "mamba" || type == "linear_attention") return BlockType::mamba;
  if (type == "attention" || type == "full_attention") return BlockType::attention;
  if (type == "mlp") return BlockType::mlp;
  if (type == "moe") return BlockType::moe;
  throw std::invalid_argument("fixture: block type " + type);
}

std::vector<BlockType> block_types(const nlohmann::json& types) {
  std::vector<BlockType> result;
  for (const auto& type : types) result.push_back(block_type(type.get<std::string>()));
  return result;
}

}  // namespace

nlohmann::json load_json(const std::string& file) {
  std::ifstream stream(file);
  if (!stream) throw std::runtime_error("cannot open " + file);
  return nlohmann::json::parse(stream);
}

std::vector<std::string> fixture_names(const std::string& prefix) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(ASSAY_GOLDEN_DIR) + "/upstream"))
    if (entry.path().extension() == ".json" && entry.path().stem().string().starts_with(prefix))
      names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

Fixture load_fixture(const std::string& name) {
  const std::string file = std::string(ASSAY_GOLDEN_DIR) + "/upstream/" + name + ".json";
  std::ifstream stream(file);
  if (!stream) throw std::runtime_error("cannot open " + file);
  const auto json = nlohmann::ordered_json::parse(stream);
  Fixture fixture{json.at("name"), json.at("layer"), json.at("path"), json.at("config"), json.at("attributes"), {}};
  for (const auto& [tensor_name, tensor] : json.at("tensors").items()) {
    FixtureTensor read{tensor_name, tensor.at("dtype"), tensor.at("shape").get<Shape>(), {}};
    for (const auto& value : tensor.at("data")) read.data.push_back(number(value));
    fixture.tensors.push_back(std::move(read));
  }
  return fixture;
}

const FixtureTensor* Fixture::find(std::string_view tensor) const {
  for (const FixtureTensor& t : tensors)
    if (t.name == tensor) return &t;
  return nullptr;
}

const FixtureTensor& Fixture::operator[](std::string_view tensor) const {
  const FixtureTensor* found = find(tensor);
  if (!found) throw std::out_of_range("fixture " + name + " has no tensor " + std::string(tensor));
  return *found;
}

NemotronV3Config Fixture::model_config() const {
  NemotronV3Config c;
  const auto get = [this](const char* field, auto& value) {
    if (config.contains(field) && !config.at(field).is_null()) config.at(field).get_to(value);
  };
  get("vocab_size", c.vocab_size);
  get("hidden_size", c.hidden_size);
  get("residual_in_fp32", c.residual_in_fp32);
  get("layer_norm_epsilon", c.layer_norm_epsilon);
  get("num_attention_heads", c.num_attention_heads);
  get("num_key_value_heads", c.num_key_value_heads);
  get("head_dim", c.head_dim);
  get("attention_bias", c.attention_bias);
  get("intermediate_size", c.intermediate_size);
  get("mlp_bias", c.mlp_bias);
  get("mamba_num_heads", c.mamba_num_heads);
  get("mamba_head_dim", c.mamba_head_dim);
  get("n_groups", c.n_groups);
  get("ssm_state_size", c.ssm_state_size);
  get("conv_kernel", c.conv_kernel);
  get("chunk_size", c.chunk_size);
  get("use_conv_bias", c.use_conv_bias);
  get("use_bias", c.use_bias);
  get("time_step_min", c.time_step_min);
  get("time_step_max", c.time_step_max);
  get("time_step_floor", c.time_step_floor);
  get("n_routed_experts", c.n_routed_experts);
  get("num_experts_per_tok", c.num_experts_per_tok);
  get("moe_intermediate_size", c.moe_intermediate_size);
  get("moe_shared_expert_intermediate_size", c.moe_shared_expert_intermediate_size);
  get("moe_latent_size", c.moe_latent_size);
  get("n_group", c.n_group);
  get("topk_group", c.topk_group);
  get("norm_topk_prob", c.norm_topk_prob);
  get("routed_scaling_factor", c.routed_scaling_factor);
  get("initializer_range", c.initializer_range);
  get("rescale_prenorm_residual", c.rescale_prenorm_residual);
  get("num_nextn_predict_layers", c.num_nextn_predict_layers);
  if (config.contains("layers_block_type")) c.layers_block_type = block_types(config.at("layers_block_type"));
  if (config.contains("mtp_layers_block_type"))
    c.mtp_layers_block_type = block_types(config.at("mtp_layers_block_type"));
  if (config.contains("mtp_hybrid_override_pattern"))
    c.mtp_layers_block_type = parse_pattern(config.at("mtp_hybrid_override_pattern").get<std::string>());
  if (config.contains("time_step_limit"))
    for (int i = 0; i < 2; ++i) c.time_step_limit[i] = number(config.at("time_step_limit")[i]);
  std::string dtype = "bfloat16";
  get("dtype", dtype);
  get("torch_dtype", dtype);
  c.torch_dtype = dtype == "bfloat16" ? ModelDtype::bfloat16 : ModelDtype::float32;
  return c;
}

}  // namespace assay::reference::testing
