#include "reference/init/parameter_specs.h"

namespace assay::reference {
namespace {

// Collects specs under a prefix; the layers below read as a list of what upstream's constructors build.
class SpecList {
 public:
  void add(std::string name, Shape shape, Construction construction, BirthDtype birth, Index fan_in = 0,
           ParameterFlags flags = {}) {
    specs_.push_back({prefix_ + std::move(name), std::move(shape), construction, birth, fan_in, flags});
  }
  void ones(std::string name, Index size, BirthDtype birth = BirthDtype::model) {
    add(std::move(name), {size}, Construction::ones, birth);
  }
  void linear(const std::string& name, Index out, Index in, bool bias, BirthDtype birth = BirthDtype::model) {
    add(name + ".weight", {out, in}, Construction::linear_weight, birth, in);
    if (bias) add(name + ".bias", {out}, Construction::linear_bias, birth, in);
  }
  void set_prefix(std::string prefix) { prefix_ = std::move(prefix); }
  std::vector<ParameterSpec> take() { return std::move(specs_); }

 private:
  std::string prefix_;
  std::vector<ParameterSpec> specs_;
};

void add_mamba(SpecList& list, const NemotronV3Config& c) {
  constexpr BirthDtype kDefault = BirthDtype::torch_default;
  const Index heads = c.mamba_num_heads, inner = c.mamba_intermediate_size(), channels = c.conv_dim();
  list.linear("in_proj", c.in_proj_rows(), c.hidden_size, c.use_bias, kDefault);
  // Depthwise: one input channel an output, so the fan-in is the width of the convolution.
  list.add("conv1d.weight", {channels, 1, c.conv_kernel}, Construction::conv_weight, kDefault, c.conv_kernel);
  if (c.use_conv_bias) list.add("conv1d.bias", {channels}, Construction::conv_bias, kDefault, c.conv_kernel);
  list.add("_fp32_params.dt_bias", {heads}, Construction::ones, BirthDtype::float32);
  list.add("_fp32_params.A_log", {heads}, Construction::a_log, BirthDtype::float32, 0, {.no_weight_decay = true});
  list.add("_fp32_params.D", {heads}, Construction::ones, BirthDtype::float32, 0, {.no_weight_decay = true});
  list.ones("norm.weight", inner, kDefault);
  list.linear("out_proj", c.hidden_size, inner, c.use_bias, kDefault);
}

void add_attention(SpecList& list, const NemotronV3Config& c) {
  list.linear("q_proj", c.attention_width(), c.hidden_size, c.attention_bias);
  list.linear("k_proj", c.key_value_width(), c.hidden_size, c.attention_bias);
  list.linear("v_proj", c.key_value_width(), c.hidden_size, c.attention_bias);
  list.linear("o_proj", c.hidden_size, c.attention_width(), c.attention_bias);
}

void add_mlp(SpecList& list, const std::string& prefix, const NemotronV3Config& c, Index inner) {
  list.linear(prefix + "up_proj", inner, c.hidden_size, c.mlp_bias);
  list.linear(prefix + "down_proj", c.hidden_size, inner, c.mlp_bias);
}

void add_moe(SpecList& list, const NemotronV3Config& c) {
  constexpr Construction kRaw = Construction::uninitialised;
  constexpr BirthDtype kModel = BirthDtype::model;
  const Index experts = c.n_routed_experts, in = c.expert_input_size(), inner = c.moe_intermediate_size;
  list.add("gate.weight", {experts, c.hidden_size}, kRaw, kModel);
  list.add("gate.e_score_correction_bias", {experts}, Construction::zeros, BirthDtype::float32, 0, {.is_buffer = true});
  list.add("experts.gate_and_up_projs", {experts, in, inner}, kRaw, kModel);
  list.add("experts.down_projs", {experts, inner, in}, kRaw, kModel);
  if (c.mlp_bias) {
    list.add("experts.gate_up_proj_bias", {experts, inner}, kRaw, kModel);
    list.add("experts.down_proj_bias", {experts, in}, kRaw, kModel);
  }
  add_mlp(list, "shared_experts.", c, c.moe_shared_expert_intermediate_size);
  if (c.moe_latent_size > 0) {
    list.linear("fc1_latent_proj", c.moe_latent_size, c.hidden_size, c.mlp_bias);
    list.linear("fc2_latent_proj", c.hidden_size, c.moe_latent_size, c.mlp_bias);
  }
}

void add_block(SpecList& list, const std::string& prefix, BlockType type, const NemotronV3Config& c) {
  list.set_prefix(prefix);
  list.ones("norm.weight", c.hidden_size);
  list.set_prefix(prefix + "mixer.");
  switch (type) {
    case BlockType::mamba:
      return add_mamba(list, c);
    case BlockType::attention:
      return add_attention(list, c);
    case BlockType::mlp:
      return add_mlp(list, "", c, c.intermediate_size);
    case BlockType::moe:
      return add_moe(list, c);
  }
}

void add_mtp_sublayer(SpecList& list, Index sublayer, const NemotronV3Config& c) {
  const auto [type, first, last] = mtp_position(c, sublayer);
  add_block(list, mtp_prefix(sublayer), type, c);
  list.set_prefix(mtp_prefix(sublayer));
  if (first) {
    list.ones("enorm.weight", c.hidden_size, BirthDtype::bfloat16);
    list.ones("hnorm.weight", c.hidden_size, BirthDtype::bfloat16);
    list.linear("eh_proj", c.hidden_size, 2 * c.hidden_size, /*bias=*/false);
  }
  if (last) list.ones("final_layernorm.weight", c.hidden_size, BirthDtype::bfloat16);
}

}  // namespace

std::string backbone_prefix(Index layer) { return "model.layers." + std::to_string(layer) + "."; }
std::string mtp_prefix(Index sublayer) { return "mtp.layers." + std::to_string(sublayer) + "."; }

MtpPosition mtp_position(const NemotronV3Config& config, Index sublayer) {
  const auto length = static_cast<Index>(config.mtp_layers_block_type.size()), position = sublayer % length;
  return {config.mtp_layers_block_type[position], position == 0, position == length - 1};
}

std::vector<ParameterSpec> parameter_specs(const NemotronV3Config& config) {
  config.validate();
  SpecList list;
  list.add("model.embed_tokens.weight", {config.vocab_size, config.hidden_size}, Construction::standard_normal,
           BirthDtype::model);
  for (Index i = 0; i < config.num_hidden_layers(); ++i)
    add_block(list, backbone_prefix(i), config.layers_block_type[i], config);
  list.set_prefix("");
  list.ones("model.norm.weight", config.hidden_size);
  list.linear("lm_head", config.vocab_size, config.hidden_size, /*bias=*/false);
  for (Index j = 0; j < config.mtp_sublayers(); ++j) add_mtp_sublayer(list, j, config);
  return list.take();
}

}  // namespace assay::reference
