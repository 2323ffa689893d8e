#include "reference/config.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <stdexcept>
#include <string>

namespace assay::reference {
namespace {

std::string complaint(const std::function<void(NemotronV3Config&)>& spoil) {
  NemotronV3Config config;
  config.num_nextn_predict_layers = 1;
  spoil(config);
  try {
    config.validate();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(Config, DefaultsAreValid) {
  EXPECT_EQ(complaint([](NemotronV3Config&) {}), "");
}

// One contradiction at a time: the text names the field, its value and what is wanted.
TEST(Config, NamesEveryContradiction) {
  using Config = NemotronV3Config;
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const struct {
    std::function<void(Config&)> spoil;
    const char *field, *value;
  } cases[] = {
      {[](Config& c) { c.vocab_size = 0; }, "vocab_size", "0"},
      {[](Config& c) { c.hidden_size = -3; }, "hidden_size", "-3"},
      {[=](Config& c) { c.layer_norm_epsilon = nan; }, "layer_norm_epsilon", "nan"},
      {[=](Config& c) { c.layer_norm_epsilon = inf; }, "layer_norm_epsilon", "inf"},
      {[](Config& c) { c.initializer_range = -0.5; }, "initializer_range", "-0.5"},
      {[](Config& c) { c.tie_word_embeddings = true; }, "tie_word_embeddings", "true"},
      {[](Config& c) { c.num_attention_heads = 30; }, "num_attention_heads", "30"},
      {[](Config& c) { c.num_key_value_heads = 0; }, "num_key_value_heads", "0"},
      {[](Config& c) { c.head_dim = 0; }, "head_dim", "0"},
      {[](Config& c) { c.mamba_head_dim = INT64_MAX; }, "mamba_head_dim", "9223372036854775807"},
      {[](Config& c) { c.num_nextn_predict_layers = 1 << 20; }, "num_nextn_predict_layers", "1048576"},
      {[](Config& c) { c.attention_dropout = 1; }, "attention_dropout", "1"},
      {[](Config& c) { c.intermediate_size = 0; }, "intermediate_size", "0"},
      {[](Config& c) { c.mlp_hidden_act = "gelu"; }, "mlp_hidden_act", "gelu"},
      {[](Config& c) { c.mamba_num_heads = 127; }, "mamba_num_heads", "127"},
      {[](Config& c) { c.mamba_head_dim = 0; }, "mamba_head_dim", "0"},
      {[](Config& c) { c.n_groups = 0; }, "n_groups", "0"},
      {[](Config& c) { c.ssm_state_size = 0; }, "ssm_state_size", "0"},
      {[](Config& c) { c.conv_kernel = 5; }, "conv_kernel", "5"},
      {[](Config& c) { c.chunk_size = 0; }, "chunk_size", "0"},
      {[](Config& c) { c.mamba_hidden_act = "relu"; }, "mamba_hidden_act", "relu"},
      {[](Config& c) { c.time_step_limit[1] = -1; }, "time_step_limit", "-1"},
      {[=](Config& c) { c.time_step_limit[0] = nan; }, "time_step_limit", "nan"},
      {[](Config& c) { c.time_step_min = 0.2; }, "time_step_min", "0.2"},
      {[](Config& c) { c.time_step_floor = 0; }, "time_step_floor", "0"},
      {[](Config& c) { c.n_routed_experts = 0; }, "n_routed_experts", "0"},
      {[](Config& c) { c.n_shared_experts = 2; }, "n_shared_experts", "2"},
      {[](Config& c) { c.num_experts_per_tok = 9; }, "num_experts_per_tok", "9"},
      {[](Config& c) { c.moe_intermediate_size = 0; }, "moe_intermediate_size", "0"},
      {[](Config& c) { c.moe_latent_size = -1; }, "moe_latent_size", "-1"},
      {[](Config& c) { c.n_group = 3; }, "n_group", "3"},
      {[](Config& c) { c.n_group = 8; }, "n_group", "8"},
      {[](Config& c) { c.topk_group = 2; }, "topk_group", "2"},
      {[](Config& c) { c.n_group = 4, c.num_experts_per_tok = 3; }, "num_experts_per_tok", "3"},
      {[=](Config& c) { c.routed_scaling_factor = inf; }, "routed_scaling_factor", "inf"},
      {[](Config& c) { c.num_nextn_predict_layers = -1; }, "num_nextn_predict_layers", "-1"},
      {[](Config& c) { c.mtp_layers_block_type.clear(); }, "mtp_layers_block_type", "empty"},
      {[](Config& c) { c.mtp_loss_scaling_factor = -1; }, "mtp_loss_scaling_factor", "-1"},
  };
  for (const auto& [spoil, field, value] : cases) {
    const std::string text = complaint(spoil);
    EXPECT_NE(text.find(field), text.npos) << field << ": " << text;
    EXPECT_NE(text.find(value), text.npos) << field << ": " << text;
    EXPECT_NE(text.find("want"), text.npos) << text;
  }
}

TEST(Config, AbsentBlockTypesAreNotLookedAt) {
  EXPECT_EQ(complaint([](NemotronV3Config& c) {
              c.layers_block_type = {BlockType::mamba, BlockType::mlp};
              c.num_nextn_predict_layers = 0;
              c.n_routed_experts = 0;
              c.num_attention_heads = 0;
            }),
            "");
}

TEST(Config, MtpPatternCountsAsPartOfTheModel) {
  EXPECT_NE(complaint([](NemotronV3Config& c) {
              c.layers_block_type = {BlockType::mamba};
              c.n_routed_experts = 0;
            }),
            "");
}

TEST(Config, DerivedSizesOfNano) {
  NemotronV3Config c;
  c.hidden_size = 2688;
  c.mamba_num_heads = 64;
  c.num_key_value_heads = 2;
  EXPECT_EQ(c.mamba_intermediate_size(), 4096);
  EXPECT_EQ(c.conv_dim(), 6144);
  EXPECT_EQ(c.in_proj_rows(), 10304);
  EXPECT_EQ(c.mamba_norm_group_size(), 512);
  EXPECT_EQ(c.mamba_heads_per_group(), 8);
  EXPECT_EQ(c.attention_width(), 4096);
  EXPECT_EQ(c.key_value_width(), 256);
  EXPECT_EQ(c.query_heads_per_key_value(), 16);
  EXPECT_EQ(c.expert_input_size(), 2688);
  c.moe_latent_size = 1024;
  EXPECT_EQ(c.expert_input_size(), 1024);
}

TEST(Config, MtpSublayers) {
  NemotronV3Config c;
  EXPECT_EQ(c.mtp_sublayers(), 0);
  c.num_nextn_predict_layers = 2;
  EXPECT_EQ(c.mtp_sublayers(), 4);
  c.mtp_use_repeated_layer = true;
  EXPECT_EQ(c.mtp_sublayers(), 2);
}

TEST(Config, TimeStepLimit) {
  NemotronV3Config c;
  EXPECT_FALSE(c.has_time_step_limit());
  c.time_step_limit[1] = 0.4;
  EXPECT_TRUE(c.has_time_step_limit());
  c = {};
  c.time_step_limit[0] = 0.02;
  EXPECT_TRUE(c.has_time_step_limit());
}

TEST(Pattern, ParsesAndPrints) {
  EXPECT_EQ(to_pattern(parse_pattern("MEM*-E")), "MEM*-E");
  EXPECT_TRUE(parse_pattern("").empty());
  try {
    parse_pattern("MEX");
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find("character 2 is 'X'"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace assay::reference
