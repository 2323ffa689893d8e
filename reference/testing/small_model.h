// For tests only: a model with every feature on and sizes small enough for finite differences.
#pragma once

#include <string>

#include "reference/config.h"
#include "reference/parameters.h"
#include "reference/testing/random.h"

namespace assay::reference::testing {

inline NemotronV3Config small_config(const std::string& pattern) {
  NemotronV3Config c;
  c.layers_block_type = parse_pattern(pattern);
  c.vocab_size = 19;
  c.hidden_size = 10;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 3;
  c.attention_bias = true;
  c.intermediate_size = 7;
  c.mlp_bias = true;
  c.mamba_num_heads = 4;
  c.mamba_head_dim = 3;
  c.n_groups = 2;
  c.ssm_state_size = 5;
  c.chunk_size = 4;
  c.use_bias = true;
  c.time_step_limit[0] = 0.2;  // binds for some tokens at either end
  c.time_step_limit[1] = 1.2;
  c.n_routed_experts = 6;
  c.num_experts_per_tok = 2;
  c.moe_intermediate_size = 4;
  c.moe_shared_expert_intermediate_size = 5;
  c.moe_latent_size = 6;
  c.n_group = 2;
  c.topk_group = 2;
  c.routed_scaling_factor = 2.5;
  return c;
}

inline void add_small_block(const NemotronV3Config& c, BlockType type, const std::string& prefix, Random& random,
                            Parameters<double>& p) {
  const auto add = [&](const std::string& name, Shape shape, double low = -0.8, double high = 0.8) {
    p.set(prefix + name, random.tensor<double>(std::move(shape), low, high));
  };
  const auto add_linear = [&](const std::string& name, Index out, Index in, bool bias) {
    add(name + ".weight", {out, in});
    if (bias) add(name + ".bias", {out});
  };
  add("norm.weight", {c.hidden_size}, 0.5, 1.5);
  const std::string m = "mixer.";
  switch (type) {
    case BlockType::mamba:
      add_linear(m + "in_proj", c.in_proj_rows(), c.hidden_size, c.use_bias);
      add(m + "conv1d.weight", {c.conv_dim(), 1, c.conv_kernel});
      if (c.use_conv_bias) add(m + "conv1d.bias", {c.conv_dim()});
      add(m + "_fp32_params.dt_bias", {c.mamba_num_heads});
      add(m + "_fp32_params.A_log", {c.mamba_num_heads});
      add(m + "_fp32_params.D", {c.mamba_num_heads});
      add(m + "norm.weight", {c.mamba_intermediate_size()}, 0.5, 1.5);
      add_linear(m + "out_proj", c.hidden_size, c.mamba_intermediate_size(), c.use_bias);
      break;
    case BlockType::attention:
      add_linear(m + "q_proj", c.attention_width(), c.hidden_size, c.attention_bias);
      add_linear(m + "k_proj", c.key_value_width(), c.hidden_size, c.attention_bias);
      add_linear(m + "v_proj", c.key_value_width(), c.hidden_size, c.attention_bias);
      add_linear(m + "o_proj", c.hidden_size, c.attention_width(), c.attention_bias);
      break;
    case BlockType::mlp:
      add_linear(m + "up_proj", c.intermediate_size, c.hidden_size, c.mlp_bias);
      add_linear(m + "down_proj", c.hidden_size, c.intermediate_size, c.mlp_bias);
      break;
    case BlockType::moe:
      add(m + "gate.weight", {c.n_routed_experts, c.hidden_size});
      p.set(prefix + m + "gate.e_score_correction_bias", random.tensor<double>({c.n_routed_experts}, -0.1, 0.1),
            {.is_buffer = true});
      add(m + "experts.gate_and_up_projs", {c.n_routed_experts, c.expert_input_size(), c.moe_intermediate_size});
      add(m + "experts.down_projs", {c.n_routed_experts, c.moe_intermediate_size, c.expert_input_size()});
      if (c.mlp_bias) add(m + "experts.gate_up_proj_bias", {c.n_routed_experts, c.moe_intermediate_size});
      if (c.mlp_bias) add(m + "experts.down_proj_bias", {c.n_routed_experts, c.expert_input_size()});
      add_linear(m + "shared_experts.up_proj", c.moe_shared_expert_intermediate_size, c.hidden_size, c.mlp_bias);
      add_linear(m + "shared_experts.down_proj", c.hidden_size, c.moe_shared_expert_intermediate_size, c.mlp_bias);
      if (c.moe_latent_size > 0) add_linear(m + "fc1_latent_proj", c.moe_latent_size, c.hidden_size, c.mlp_bias);
      if (c.moe_latent_size > 0) add_linear(m + "fc2_latent_proj", c.hidden_size, c.moe_latent_size, c.mlp_bias);
      break;
  }
}

inline Parameters<double> small_parameters(const NemotronV3Config& c, Random& random) {
  Parameters<double> p;
  const auto add = [&](const std::string& name, Shape shape, double low = -0.8, double high = 0.8) {
    p.set(name, random.tensor<double>(std::move(shape), low, high));
  };
  add("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
  for (Index i = 0; i < c.num_hidden_layers(); ++i)
    add_small_block(c, c.layers_block_type[i], "model.layers." + std::to_string(i) + ".", random, p);
  add("model.norm.weight", {c.hidden_size}, 0.5, 1.5);
  add("lm_head.weight", {c.vocab_size, c.hidden_size});
  const Index length = static_cast<Index>(c.mtp_layers_block_type.size());
  for (Index j = 0; j < c.mtp_sublayers(); ++j) {
    const std::string prefix = "mtp.layers." + std::to_string(j) + ".";
    add_small_block(c, c.mtp_layers_block_type[j % length], prefix, random, p);
    if (j % length == 0) {
      add(prefix + "enorm.weight", {c.hidden_size}, 0.5, 1.5);
      add(prefix + "hnorm.weight", {c.hidden_size}, 0.5, 1.5);
      add(prefix + "eh_proj.weight", {c.hidden_size, 2 * c.hidden_size});
    }
    if (j % length == length - 1) add(prefix + "final_layernorm.weight", {c.hidden_size}, 0.5, 1.5);
  }
  return p;
}

}  // namespace assay::reference::testing
