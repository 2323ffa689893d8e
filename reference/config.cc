#include "reference/config.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

namespace assay::reference {
namespace {

using Index = NemotronV3Config::Index;

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  text << "NemotronV3Config: ";
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}

// Above any real model, and small enough that products of two sizes fit in 64 bits.
constexpr Index kMaxSize = Index{1} << 30;
// Each depth is a stack of blocks with weights of its own.
constexpr Index kMaxMtpDepths = 1000;

void require_positive(const char* field, Index value) {
  if (value < 1 || value > kMaxSize) fail(field, " = ", value, "; want 1 .. ", kMaxSize);
}

void require_positive(const char* field, double value) {
  if (!(value > 0) || std::isinf(value)) fail(field, " = ", value, "; want a finite number above 0");
}

void require_divides(const char* divisor, Index d, const char* field, Index value) {
  if (value % d != 0) fail(field, " = ", value, " is no multiple of ", divisor, " = ", d, "; want a multiple");
}

void validate_attention(const NemotronV3Config& c) {
  require_positive("num_attention_heads", c.num_attention_heads);
  require_positive("num_key_value_heads", c.num_key_value_heads);
  require_positive("head_dim", c.head_dim);
  require_divides("num_key_value_heads", c.num_key_value_heads, "num_attention_heads", c.num_attention_heads);
  if (!(c.attention_dropout >= 0 && c.attention_dropout < 1))
    fail("attention_dropout = ", c.attention_dropout, "; want 0 <= attention_dropout < 1");
}

void validate_mlp(const NemotronV3Config& c) { require_positive("intermediate_size", c.intermediate_size); }

void validate_mamba(const NemotronV3Config& c) {
  require_positive("mamba_num_heads", c.mamba_num_heads);
  require_positive("mamba_head_dim", c.mamba_head_dim);
  require_positive("n_groups", c.n_groups);
  require_positive("ssm_state_size", c.ssm_state_size);
  require_positive("chunk_size", c.chunk_size);
  require_divides("n_groups", c.n_groups, "mamba_num_heads", c.mamba_num_heads);
  if (c.conv_kernel < 2 || c.conv_kernel > 4) fail("conv_kernel = ", c.conv_kernel, "; want 2, 3 or 4");
  if (c.mamba_hidden_act != "silu" && c.mamba_hidden_act != "swish")
    fail("mamba_hidden_act = \"", c.mamba_hidden_act, "\"; want \"silu\" or \"swish\"");
  const auto [low, high] = c.time_step_limit;
  if (!(low >= 0 && low <= high)) fail("time_step_limit = (", low, ", ", high, "); want 0 <= low <= high");
  require_positive("time_step_min", c.time_step_min);
  require_positive("time_step_max", c.time_step_max);
  require_positive("time_step_floor", c.time_step_floor);
  if (c.time_step_min > c.time_step_max)
    fail("time_step_min = ", c.time_step_min, " above time_step_max = ", c.time_step_max, "; want min <= max");
}

void validate_moe(const NemotronV3Config& c) {
  if (c.n_routed_experts < 1)
    fail("n_routed_experts = ", c.n_routed_experts,
         " but layers_block_type has a moe block; want 1 or more experts, or no ", "moe block");
  if (c.n_shared_experts != 1)
    fail("n_shared_experts = ", c.n_shared_experts, "; want 1, the only number upstream builds");
  require_positive("moe_intermediate_size", c.moe_intermediate_size);
  require_positive("moe_shared_expert_intermediate_size", c.moe_shared_expert_intermediate_size);
  if (c.moe_latent_size != 0) require_positive("moe_latent_size", c.moe_latent_size);
  require_positive("n_group", c.n_group);
  require_positive("topk_group", c.topk_group);
  require_divides("n_group", c.n_group, "n_routed_experts", c.n_routed_experts);
  if (c.n_group > 1 && c.experts_per_group() < 2)
    fail("n_group = ", c.n_group, " leaves ", c.experts_per_group(), " of n_routed_experts = ", c.n_routed_experts,
         " in a group; want 2 or more, a group's score is the sum of its best two");
  if (c.topk_group > c.n_group)
    fail("topk_group = ", c.topk_group, " above n_group = ", c.n_group, "; want at most n_group");
  require_positive("num_experts_per_tok", c.num_experts_per_tok);
  if (c.num_experts_per_tok > c.experts_per_group() * c.topk_group)
    fail("num_experts_per_tok = ", c.num_experts_per_tok, " above the ", c.experts_per_group() * c.topk_group,
         " experts of topk_group = ", c.topk_group, " groups; want at most that many");
  if (!std::isfinite(c.routed_scaling_factor))
    fail("routed_scaling_factor = ", c.routed_scaling_factor, "; want a finite number");
}

}  // namespace

std::string_view name(BlockType type) {
  switch (type) {
    case BlockType::mamba:
      return "mamba";
    case BlockType::attention:
      return "attention";
    case BlockType::mlp:
      return "mlp";
    case BlockType::moe:
      return "moe";
  }
  fail("BlockType ", static_cast<int>(type), "; want mamba, attention, mlp or moe");
}

char pattern_symbol(BlockType type) {
  switch (type) {
    case BlockType::mamba:
      return 'M';
    case BlockType::attention:
      return '*';
    case BlockType::mlp:
      return '-';
    case BlockType::moe:
      return 'E';
  }
  fail("BlockType ", static_cast<int>(type), "; want mamba, attention, mlp or moe");
}

std::vector<BlockType> parse_pattern(std::string_view pattern) {
  std::vector<BlockType> types;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    switch (pattern[i]) {
      case 'M':
        types.push_back(BlockType::mamba);
        break;
      case '*':
        types.push_back(BlockType::attention);
        break;
      case '-':
        types.push_back(BlockType::mlp);
        break;
      case 'E':
        types.push_back(BlockType::moe);
        break;
      default:
        throw std::invalid_argument("pattern \"" + std::string(pattern) + "\": character " + std::to_string(i) +
                                    " is '" + pattern[i] + "'; want M, *, - or E");
    }
  }
  return types;
}

std::string to_pattern(const std::vector<BlockType>& types) {
  std::string pattern;
  for (const BlockType type : types) pattern += pattern_symbol(type);
  return pattern;
}

std::string_view name(ModelDtype dtype) {
  switch (dtype) {
    case ModelDtype::float32:
      return "float32";
    case ModelDtype::bfloat16:
      return "bfloat16";
    case ModelDtype::float64:
      return "float64";
  }
  fail("ModelDtype ", static_cast<int>(dtype), "; want float32, bfloat16 or float64");
}

bool NemotronV3Config::has(BlockType type) const {
  const auto contains = [type](const std::vector<BlockType>& types) {
    return std::find(types.begin(), types.end(), type) != types.end();
  };
  return contains(layers_block_type) || (has_mtp() && contains(mtp_layers_block_type));
}

bool NemotronV3Config::has_time_step_limit() const {
  return time_step_limit[0] > 0 || std::isfinite(time_step_limit[1]);
}

void NemotronV3Config::validate() const {
  require_positive("vocab_size", vocab_size);
  require_positive("hidden_size", hidden_size);
  require_positive("layer_norm_epsilon", layer_norm_epsilon);
  if (!(initializer_range >= 0) || std::isinf(initializer_range))
    fail("initializer_range = ", initializer_range, "; want a finite number of 0 or more");
  if (tie_word_embeddings) fail("tie_word_embeddings = true; want false, the head of this model is never tied");
  if (num_nextn_predict_layers < 0 || num_nextn_predict_layers > kMaxMtpDepths)
    fail("num_nextn_predict_layers = ", num_nextn_predict_layers, "; want 0 .. ", kMaxMtpDepths);
  if (num_nextn_predict_layers > 0 && mtp_layers_block_type.empty())
    fail("num_nextn_predict_layers = ", num_nextn_predict_layers,
         " but mtp_layers_block_type is empty; want the pattern of ", "one depth, or 0 depths");
  if (!(mtp_loss_scaling_factor >= 0) || std::isinf(mtp_loss_scaling_factor))
    fail("mtp_loss_scaling_factor = ", mtp_loss_scaling_factor, "; want a finite number of 0 or more");
  if ((has(BlockType::mlp) || has(BlockType::moe)) && mlp_hidden_act != "relu2")
    fail("mlp_hidden_act = \"", mlp_hidden_act, "\"; want \"relu2\"");
  if (has(BlockType::attention)) validate_attention(*this);
  if (has(BlockType::mlp)) validate_mlp(*this);
  if (has(BlockType::mamba)) validate_mamba(*this);
  if (has(BlockType::moe)) validate_moe(*this);
}

}  // namespace assay::reference
