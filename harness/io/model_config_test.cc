#include "harness/io/model_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "harness/io/file.h"
#include "harness/io/fixture.h"
#include "harness/io/model_config_fields.h"
#include "harness/io/temporary_folder.h"

namespace assay::harness {
namespace {

using nlohmann::ordered_json;
using reference::BlockType;
using reference::ModelDtype;
using Config = reference::NemotronV3Config;
namespace fs = std::filesystem;

const fs::path kGolden = ASSAY_GOLDEN;

Config parse(const std::string& text) { return parse_model_config(ordered_json::parse(text), "config.json"); }

// The message of the ConfigError that `action` throws; fails if there is none.
template <class Action>
std::string complaint(Action action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no ConfigError";
  return "";
}

Config read_text(const std::string& text) {
  const TemporaryFolder folder;
  return read_model_config(folder.put("config.json", text));
}

// ---- real files

TEST(ModelConfig, ReadsWhatTransformersWrites) {
  for (const char* dtype : {"f32", "bf16"}) {
    const Config c = read_model_config(kGolden / "upstream" / (std::string("hf_checkpoint_") + dtype) / "config.json");
    EXPECT_EQ(reference::to_pattern(c.layers_block_type), "ME*-");
    EXPECT_EQ(reference::to_pattern(c.mtp_layers_block_type), "*E");
    EXPECT_EQ(name(c.torch_dtype), std::string(dtype) == "f32" ? "float32" : "bfloat16");
    EXPECT_EQ(c.vocab_size, 71);
    EXPECT_EQ(c.time_step_limit[0], 0);
    EXPECT_TRUE(std::isinf(c.time_step_limit[1]));
    EXPECT_EQ(c.moe_latent_size, 0);
    EXPECT_EQ(c.routed_scaling_factor, 2.5);
    EXPECT_FALSE(c.has_mtp());
  }
}

TEST(ModelConfig, ReadsTheConfigOfEveryRecording) {
  int models = 0;
  for (const auto& entry : fs::directory_iterator(kGolden / "upstream")) {
    if (entry.path().extension() != ".json") continue;
    const Fixture fixture = read_fixture(entry.path());
    const Config config = parse_model_config(fixture.config, fixture.file, "/config");
    if (fixture.layer != "model" && fixture.layer != "block") continue;
    ++models;
    EXPECT_NO_THROW(config.validate()) << entry.path();
  }
  EXPECT_GE(models, 20);
}

// ---- spellings

TEST(ModelConfig, BlockTypesUnderEverySpelling) {
  const std::vector<BlockType> want = {BlockType::mamba, BlockType::attention, BlockType::mlp, BlockType::moe};
  for (const char* text :
       {R"({"layers_block_type": ["mamba", "attention", "mlp", "moe"]})",
        R"({"layers_block_type": ["linear_attention", "full_attention", "mlp", "moe"]})",
        R"({"layer_types": ["linear_attention", "full_attention", "mlp", "moe"]})",
        R"({"hybrid_override_pattern": "M*-E"})", R"({"hybrid_override_pattern": "M*-E", "layers_block_type": null})",
        R"({"hybrid_override_pattern": "M*-E", "num_hidden_layers": 4,
                               "layers_block_type": ["mamba", "attention", "mlp", "moe"]})"})
    EXPECT_EQ(parse(text).layers_block_type, want) << text;
}

TEST(ModelConfig, TheMtpStringWins) {
  const Config c =
      parse(R"({"mtp_layers_block_type": ["full_attention", "moe"], "mtp_hybrid_override_pattern": "M-"})");
  EXPECT_EQ(reference::to_pattern(c.mtp_layers_block_type), "M-");
  EXPECT_EQ(reference::to_pattern(parse(R"({"mtp_layers_block_type": ["mamba"]})").mtp_layers_block_type), "M");
}

TEST(ModelConfig, DtypeUnderBothNames) {
  EXPECT_EQ(parse("{}").torch_dtype, ModelDtype::bfloat16);
  EXPECT_EQ(parse(R"({"dtype": null})").torch_dtype, ModelDtype::bfloat16);
  EXPECT_EQ(parse(R"({"dtype": "float32"})").torch_dtype, ModelDtype::float32);
  EXPECT_EQ(parse(R"({"torch_dtype": "float64"})").torch_dtype, ModelDtype::float64);
  EXPECT_EQ(parse(R"({"torch_dtype": "float32", "dtype": "float32"})").torch_dtype, ModelDtype::float32);
}

TEST(ModelConfig, InfinityUnderEverySpelling) {
  for (const char* high : {"Infinity", R"("inf")", R"("Infinity")", R"({"__float__": "Infinity"})"}) {
    const Config c =
        read_text(std::string(R"({"hybrid_override_pattern": "M", "time_step_limit": [0.0, )") + high + "]}");
    EXPECT_FALSE(c.has_time_step_limit()) << high;
  }
  const Config c =
      read_text(R"({"hybrid_override_pattern": "M", "_name_or_path": "NaN \"Infinity", "time_step_limit": [0, 1]})");
  EXPECT_EQ(c.time_step_limit[1], 1);
}

TEST(ModelConfig, OlderNames) {
  const Config c = parse(R"({"attention_head_dim": 96, "mamba_n_groups": 4, "mamba_d_conv": 3, "mamba_dt_min": 0.002,
      "mamba_dt_max": 0.2, "mamba_dt_limit": [0.1, 0.5], "mamba_dt_init_floor": 0.01, "mamba_conv_bias": false,
      "mamba_chunk_size": 256, "num_local_experts": 16, "num_attention_heads": 24, "num_key_value_heads": null})");
  EXPECT_EQ(c.head_dim, 96);
  EXPECT_EQ(c.n_groups, 4);
  EXPECT_EQ(c.conv_kernel, 3);
  EXPECT_EQ(c.time_step_min, 0.002);
  EXPECT_EQ(c.time_step_max, 0.2);
  EXPECT_EQ(c.time_step_limit[0], 0.1);
  EXPECT_EQ(c.time_step_floor, 0.01);
  EXPECT_FALSE(c.use_conv_bias);
  EXPECT_EQ(c.chunk_size, 256);
  EXPECT_EQ(c.n_routed_experts, 16);
  EXPECT_EQ(c.num_key_value_heads, 24);
}

TEST(ModelConfig, DenseModelsHaveNoExperts) {
  const Config c =
      read_text(R"({"hybrid_override_pattern": "M-*", "n_routed_experts": null, "moe_latent_size": null})");
  EXPECT_EQ(c.n_routed_experts, 0);
}

// ---- what is refused: file, pointer, found, wanted

TEST(ModelConfig, RefusesByFileAndPointer) {
  const struct {
    const char *text, *pointer, *part;
  } cases[] = {
      {R"({"hidden_sizes": 8})", "/hidden_sizes", "unknown field"},
      {R"({"hidden_size": "8"})", "/hidden_size", "want an integer"},
      {R"({"hidden_size": 8.0})", "/hidden_size", "want an integer"},
      {R"({"hidden_size": null})", "/hidden_size", "want an integer"},
      {R"({"hidden_size": true})", "/hidden_size", "want an integer"},
      {R"({"hidden_size": 18446744073709551615})", "/hidden_size", "2^63"},
      {R"({"use_bias": 1})", "/use_bias", "want true or false"},
      {R"({"mlp_hidden_act": 3})", "/mlp_hidden_act", "want a string"},
      {R"({"layer_norm_epsilon": "small"})", "/layer_norm_epsilon", "want a number"},
      {R"({"layers_block_type": ["mamba", "ssm"]})", "/layers_block_type/1", "\"ssm\""},
      {R"({"layer_types": ["mamba", 3]})", "/layer_types/1", "linear_attention"},
      {R"({"layers_block_type": "ME"})", "/layers_block_type", "want a list"},
      {R"({"hybrid_override_pattern": "MEX"})", "/hybrid_override_pattern", "character 2"},
      {R"({"hybrid_override_pattern": "ME", "layers_block_type": ["moe", "mamba"]})", "/hybrid_override_pattern",
       "want one of them"},
      {R"({"layer_types": ["moe"], "layers_block_type": ["mamba"]})", "/layer_types", "/layers_block_type"},
      {R"({"hybrid_override_pattern": "ME", "num_hidden_layers": 3})", "/num_hidden_layers", "has 2"},
      {R"({"dtype": "float32", "torch_dtype": "bfloat16"})", "/torch_dtype", "/dtype"},
      {R"({"torch_dtype": "float16"})", "/torch_dtype", "bfloat16"},
      {R"({"head_dim": 64, "attention_head_dim": 128})", "/attention_head_dim", "/head_dim"},
      {R"({"time_step_limit": [0]})", "/time_step_limit", "[low, high]"},
      {R"({"time_step_limit": [0, "much"]})", "/time_step_limit/1", "want a number"},
      {R"({"time_step_limit": [0, {"__float__": true}]})", "/time_step_limit/1/__float__", "want a number"},
      {R"({"layer_norm_epsilon": 1e-5, "rms_norm_eps": 1e-6})", "/rms_norm_eps", "both equal"},
      {R"({"model_type": "llama"})", "/model_type", "nemotron_h"},
      {R"({"quantization_config": {"quant_method": "fp8"}})", "/quantization_config", "not quantised"},
  };
  for (const auto& [text, pointer, part] : cases) {
    const std::string message = complaint([&] { parse(text); });
    EXPECT_TRUE(message.starts_with(std::string("config.json: ") + pointer + ": ")) << text << "\n" << message;
    EXPECT_NE(message.find(part), message.npos) << text << "\n" << message;
  }
  EXPECT_NE(complaint([] { parse("[]"); }).find("want an object"), std::string::npos);
}

TEST(ModelConfig, RefusesFilesThatAreNoModel) {
  EXPECT_NE(complaint([] { read_text("{"); }).find("config.json"), std::string::npos);
  EXPECT_NE(complaint([] { read_text(R"({"a": 1, "a": 2})"); }).find("/a"), std::string::npos);
  EXPECT_NE(complaint([] { read_text(R"({"hidden_size": 8})"); }).find("/layers_block_type"), std::string::npos);
  EXPECT_NE(complaint([] { read_text(R"({"hybrid_override_pattern": "M", "n_groups": 3})"); }).find("mamba_num_heads"),
            std::string::npos);
  EXPECT_NE(complaint([] {
              read_text(R"({"hybrid_override_pattern": "M", "time_step_limit": [0, NaN]})");
            }).find("/time_step_limit/1"),
            std::string::npos);
  EXPECT_THROW(read_model_config("/no/such/config.json"), FileError);
}

// Files that differ from a right one in one byte are either refused, by file, or read.
TEST(ModelConfig, OneByteAtATime) {
  const TemporaryFolder folder;
  const std::string good = content(kGolden / "presets" / "tiny.json");
  int refused = 0, read = 0;
  for (std::size_t i = 0; i < good.size(); i += 3) {
    for (const char value : {'\0', '9', '"'}) {
      std::string text = good;
      text[i] = value;
      const fs::path file = folder.put("config.json", text);
      try {
        read_model_config(file);
        ++read;
      } catch (const ConfigError& error) {
        EXPECT_TRUE(std::string(error.what()).starts_with(file.string() + ": ")) << error.what();
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 2 * read);  // digits may change, and spaces; little else may
}

TEST(ModelConfig, PointersInsideAFixture) {
  const std::string message = complaint([] { parse_model_config({{"chunk_size", "x"}}, "golden/a.json", "/config"); });
  EXPECT_TRUE(message.starts_with("golden/a.json: /config/chunk_size: ")) << message;
}

// ---- writing

TEST(ModelConfig, SurvivesARoundTrip) {
  const TemporaryFolder folder;
  for (const std::string& name : preset_names(kGolden)) {
    const Config config = preset(name, kGolden);
    write_model_config(config, folder / "config.json");
    EXPECT_EQ(read_model_config(folder / "config.json"), config) << name;
  }
}

// Each field is written and read by itself: no two names set one member, none is forgotten.
TEST(ModelConfig, EveryFieldIsItsOwn) {
  std::set<std::string_view> names;
  for (const ConfigField& field : config_fields()) {
    EXPECT_TRUE(names.insert(field.name).second) << field.name;
    Config changed;
    std::visit(
        [&](auto pointer) {
          auto& member = changed.*pointer;
          if constexpr (std::is_same_v<std::decay_t<decltype(member)>, std::string>)
            member = "other";
          else if constexpr (std::is_same_v<std::decay_t<decltype(member)>, bool>)
            member = !member;
          else
            member += 1;
        },
        field.member);
    EXPECT_FALSE(changed == Config{}) << field.name;
    ordered_json object;
    object[std::string(field.name)] = to_json(changed).at(std::string(field.name));
    EXPECT_EQ(parse_model_config(object, "config.json"), changed) << field.name;
  }
  for (const std::string_view unread : unread_fields()) EXPECT_FALSE(names.contains(unread)) << unread;
}

// ---- presets

TEST(Presets, AreTheKnownModels) {
  for (const std::string& name : preset_names(kGolden)) EXPECT_NO_THROW(preset(name, kGolden)) << name;
  const Config nano = preset("nano-30b-a3b", kGolden), super = preset("super-120b-a12b", kGolden);
  EXPECT_EQ(nano.num_hidden_layers(), 52);
  EXPECT_EQ(std::ranges::count(nano.layers_block_type, BlockType::mamba), 23);
  EXPECT_EQ(std::ranges::count(nano.layers_block_type, BlockType::moe), 23);
  EXPECT_EQ(std::ranges::count(nano.layers_block_type, BlockType::attention), 6);
  EXPECT_EQ(nano.in_proj_rows(), 10304);
  EXPECT_EQ(super.num_hidden_layers(), 88);
  EXPECT_EQ(std::ranges::count(super.layers_block_type, BlockType::attention), 8);
  EXPECT_EQ(super.in_proj_rows(), 18560);
  EXPECT_EQ(super.conv_dim(), 10240);
  EXPECT_EQ(super.mtp_sublayers(), 2);
  EXPECT_EQ(super.expert_input_size(), 1024);
  EXPECT_EQ(preset("nano-4b", kGolden).mamba_norm_group_size(), 960);
  EXPECT_EQ(preset("nemotron-h-8b", kGolden).num_hidden_layers(), 52);
}

// The smallest preset with everything on has everything on.
TEST(Presets, TinyAllHasEveryFeature) {
  const Config c = preset("tiny-all", kGolden);
  for (const BlockType type : {BlockType::mamba, BlockType::attention, BlockType::mlp, BlockType::moe})
    EXPECT_TRUE(c.has(type)) << name(type);
  EXPECT_TRUE(c.attention_bias && c.mlp_bias && c.use_bias && c.use_conv_bias && c.residual_in_fp32);
  EXPECT_TRUE(c.has_time_step_limit() && c.has_mtp() && c.moe_latent_size > 0 && c.n_group > 1 && c.norm_topk_prob);
  EXPECT_TRUE(c.topk_group < c.n_group && c.n_groups > 1 && c.query_heads_per_key_value() > 1);
  EXPECT_NE(c.attention_width(), c.hidden_size);
  EXPECT_NE(c.mamba_intermediate_size(), 2 * c.hidden_size);
}

TEST(Presets, UnknownNameListsTheKnown) {
  const std::string message = complaint([] { preset("nano", kGolden); });
  EXPECT_NE(message.find("nano-30b-a3b"), message.npos) << message;
  EXPECT_THROW(preset("../presets/tiny", kGolden), ConfigError);
  EXPECT_THROW(preset_names("/no/such/folder"), ConfigError);
}

}  // namespace
}  // namespace assay::harness
