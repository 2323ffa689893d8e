// NemotronV3Config: the fields of a Hugging Face config.json that decide the model, in upstream's spelling, and the
// sizes derived from them. Reading JSON is the harness's business; the reference takes this struct.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace assay::reference {

// What stands between a block's norm and its residual addition.
enum class BlockType { mamba, attention, mlp, moe };
std::string_view name(BlockType type);      // "mamba", ...
char pattern_symbol(BlockType type);        // 'M', '*', '-', 'E'
// "MEM*-" -> block types. Throws std::invalid_argument naming the first character that is none of M * - E.
std::vector<BlockType> parse_pattern(std::string_view pattern);
std::string to_pattern(const std::vector<BlockType>& types);

// The dtype of weights and activations. Tensors that stay float32 whatever the model's dtype is: see parameters.h.
enum class ModelDtype { float32, bfloat16, float64 };
std::string_view name(ModelDtype dtype);    // "float32", ...

struct NemotronV3Config {
  using Index = std::int64_t;

  Index vocab_size = 131072;
  Index hidden_size = 4096;
  ModelDtype torch_dtype = ModelDtype::bfloat16;

  // Backbone. num_hidden_layers() is the length of this list.
  std::vector<BlockType> layers_block_type = {BlockType::mamba, BlockType::moe, BlockType::attention, BlockType::mlp};
  bool residual_in_fp32 = false;
  double layer_norm_epsilon = 1e-5;  // of every norm
  bool tie_word_embeddings = false;  // upstream refuses true

  // Attention, without positional encoding.
  Index num_attention_heads = 32;
  Index num_key_value_heads = 8;
  Index head_dim = 128;  // num_attention_heads * head_dim need not equal hidden_size
  bool attention_bias = false;
  double attention_dropout = 0;

  // Dense MLP.
  Index intermediate_size = 21504;
  std::string mlp_hidden_act = "relu2";
  bool mlp_bias = false;  // also of routed and shared experts and of the latent projections

  // Mamba2 mixer.
  Index mamba_num_heads = 128;
  Index mamba_head_dim = 64;
  Index n_groups = 8;
  Index ssm_state_size = 128;
  Index conv_kernel = 4;
  Index chunk_size = 128;
  bool use_conv_bias = true;
  bool use_bias = false;  // of in_proj and out_proj
  std::string mamba_hidden_act = "silu";
  double time_step_limit[2] = {0, std::numeric_limits<double>::infinity()};  // clamp of dt
  double time_step_min = 1e-3, time_step_max = 0.1, time_step_floor = 1e-4;  // of dt_bias's initialisation only

  // Mixture of experts. n_routed_experts = 0: a model without them.
  Index n_routed_experts = 8;
  Index n_shared_experts = 1;  // upstream always builds exactly one
  Index num_experts_per_tok = 2;
  Index moe_intermediate_size = 7688;
  Index moe_shared_expert_intermediate_size = 7688;
  Index moe_latent_size = 0;  // 0: no latent projection
  Index n_group = 1;
  Index topk_group = 1;
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1.0;

  // Initialisation.
  double initializer_range = 0.02;
  bool rescale_prenorm_residual = true;

  // Multi-token prediction: depths, and the pattern of one depth.
  Index num_nextn_predict_layers = 0;
  std::vector<BlockType> mtp_layers_block_type = {BlockType::attention, BlockType::moe};
  bool mtp_use_repeated_layer = false;
  double mtp_loss_scaling_factor = 0.1;

  // ---- derived sizes, under the letters of the specification
  Index num_hidden_layers() const { return static_cast<Index>(layers_block_type.size()); }             // L
  Index mamba_intermediate_size() const { return mamba_num_heads * mamba_head_dim; }                   // I = H P
  Index mamba_groups_state_size() const { return n_groups * ssm_state_size; }                          // G N
  Index conv_dim() const { return mamba_intermediate_size() + 2 * mamba_groups_state_size(); }         // Cc
  Index in_proj_rows() const { return mamba_intermediate_size() + conv_dim() + mamba_num_heads; }      // I + Cc + H
  Index mamba_norm_group_size() const { return mamba_intermediate_size() / n_groups; }                 // I / G
  Index mamba_heads_per_group() const { return mamba_num_heads / n_groups; }                           // H / G
  Index attention_width() const { return num_attention_heads * head_dim; }                             // Hq dh
  Index key_value_width() const { return num_key_value_heads * head_dim; }                             // Hkv dh
  Index query_heads_per_key_value() const { return num_attention_heads / num_key_value_heads; }        // R
  Index expert_input_size() const { return moe_latent_size > 0 ? moe_latent_size : hidden_size; }      // Dl
  Index experts_per_group() const { return n_routed_experts / n_group; }                               // E / g

  bool has(BlockType type) const;  // in the backbone or, where MTP is enabled, in its pattern
  bool has_mtp() const { return num_nextn_predict_layers > 0 && !mtp_layers_block_type.empty(); }
  Index mtp_physical_depths() const { return !has_mtp() ? 0 : mtp_use_repeated_layer ? 1 : num_nextn_predict_layers; }
  Index mtp_sublayers() const { return mtp_physical_depths() * static_cast<Index>(mtp_layers_block_type.size()); }
  bool has_time_step_limit() const;  // false for (0, infinity), which clamps nothing

  // Throws std::invalid_argument naming the field, its value and what to do about it, for the first contradiction.
  // Fields of block types that the model does not have are not looked at.
  void validate() const;

  bool operator==(const NemotronV3Config&) const = default;
};

}  // namespace assay::reference
