#include "reference/init/initialize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "reference/init/check_initialisation.h"
#include "reference/init/dt_bias.h"
#include "reference/init/kaiming_uniform.h"
#include "reference/init/mt19937.h"
#include "reference/init/parameter_specs.h"
#include "reference/init/philox.h"
#include "reference/init/residual_rescale.h"
#include "reference/testing/fixture.h"

namespace assay::reference {
namespace {

constexpr ModelDtype kFloat32 = ModelDtype::float32, kBfloat16 = ModelDtype::bfloat16;

// ---- the recordings

float ulp(float x) { return std::nextafter(std::abs(x), 1e30f) - std::abs(x); }

// Every tensor of one stage of a recording: shape, dtype and bits; dt_bias, which passes through exp, log and expm1 of
// another library, to 2 ulp.
void expect_recorded(const testing::Fixture& fixture, const std::string& stage, const ModelTensors& got) {
  std::size_t recorded = 0;
  for (const testing::FixtureTensor& want : fixture.tensors) {
    if (!want.name.starts_with(stage)) continue;
    ++recorded;
    const std::string name = want.name.substr(stage.size());
    ASSERT_TRUE(got.contains(name)) << name;
    const ModelTensor& tensor = got.find(name)->second;
    ASSERT_EQ(tensor.values.shape(), want.shape) << name;
    EXPECT_EQ(assay::reference::name(tensor.dtype), want.dtype) << name;
    const bool is_dt_bias = name.ends_with("dt_bias");
    for (Index i = 0; i < tensor.values.size(); ++i) {
      const float g = tensor.values[i], w = static_cast<float>(want.data[i]);
      if (is_dt_bias) {
        ASSERT_LE(std::abs(g - w), 2 * ulp(w)) << want.name << " " << i;
      } else {
        ASSERT_EQ(g, w) << want.name << " " << i;
      }
    }
  }
  // What upstream leaves uninitialised was not recorded; all else was.
  std::size_t wanted = 0;
  for (const auto& [name, tensor] : got) wanted += tensor.values.size() == 0 || !std::isnan(tensor.values[0]);
  EXPECT_EQ(recorded, wanted) << stage;
}

class RecordedInit : public ::testing::TestWithParam<const char*> {};

TEST_P(RecordedInit, BitForBit) {
  const testing::Fixture fixture = testing::load_fixture(GetParam());
  const NemotronV3Config config = fixture.model_config();
  CpuGenerator generator(fixture.attributes.at("seed").get<std::uint64_t>());
  ModelTensors tensors = construct(config, generator);
  expect_recorded(fixture, "constructor.", tensors);
  initialize_weights(tensors, config, generator);
  expect_recorded(fixture, "init.", tensors);
  std::set<std::string> no_weight_decay, no_reinit;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.flags.no_weight_decay) no_weight_decay.insert(name);
    if (tensor.flags.no_reinit) no_reinit.insert(name);
  }
  EXPECT_EQ(no_weight_decay, fixture.attributes.at("no_weight_decay").get<std::set<std::string>>());
  EXPECT_EQ(no_reinit, fixture.attributes.at("no_reinit").get<std::set<std::string>>());
}

INSTANTIATE_TEST_SUITE_P(Upstream, RecordedInit,
                         ::testing::Values("init_base_f32", "init_base_bf16", "init_latent_bias_f32",
                                           "init_latent_bias_bf16", "init_norescale_f32", "init_norescale_bf16"));

// ---- what no recording holds

NemotronV3Config small_config(ModelDtype dtype) {
  NemotronV3Config c;
  c.torch_dtype = dtype;
  c.vocab_size = 37;
  c.hidden_size = 24;
  c.layers_block_type = parse_pattern("ME*-");
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 8;
  c.attention_bias = c.mlp_bias = c.use_bias = true;
  c.intermediate_size = 40;
  c.mamba_num_heads = 6;
  c.mamba_head_dim = 8;
  c.n_groups = 2;
  c.ssm_state_size = 16;
  c.n_routed_experts = 4;
  c.moe_intermediate_size = 16;
  c.moe_shared_expert_intermediate_size = 20;
  c.moe_latent_size = 12;
  c.num_nextn_predict_layers = 2;
  return c;
}

bool same(const ModelTensors& a, const ModelTensors& b, const std::string& name) {
  const auto x = a.at(name).values.span(), y = b.at(name).values.span();
  return std::equal(x.begin(), x.end(), y.begin(), y.end());
}

// The order of draws of the MTP sublayers, which follow the head: each its block, then eh_proj.
TEST(Initialize, MtpDrawsComeLast) {
  const NemotronV3Config config = small_config(kFloat32);
  NemotronV3Config without = config;
  without.num_nextn_predict_layers = 0;
  CpuGenerator generator(3), by_hand(3);
  const ModelTensors tensors = construct(config, generator);
  construct(without, by_hand);
  for (int depth = 0; depth < 2; ++depth) {
    const std::string first = mtp_prefix(2 * depth), second = mtp_prefix(2 * depth + 1);
    const auto expect_uniform = [&](const std::string& name, Index fan_in) {
      std::vector<float> want(tensors.at(name).values.size());
      by_hand.uniform(want, kFloat32, -kaiming_bias_bound(fan_in), kaiming_bias_bound(fan_in));
      const auto got = tensors.at(name).values.span();
      EXPECT_TRUE(std::equal(got.begin(), got.end(), want.begin(), want.end())) << name;
    };
    for (const char* linear : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      const Index fan_in = linear == std::string("o_proj") ? 32 : 24;
      expect_uniform(first + "mixer." + linear + ".weight", fan_in);
      expect_uniform(first + "mixer." + linear + ".bias", fan_in);
    }
    expect_uniform(first + "eh_proj.weight", 48);
    const std::string moe = second + "mixer.";
    for (const auto& [linear, fan_in] : {std::pair("shared_experts.up_proj", 24),
                                         {"shared_experts.down_proj", 20},
                                         {"fc1_latent_proj", 24},
                                         {"fc2_latent_proj", 12}}) {
      expect_uniform(moe + linear + ".weight", fan_in);
      expect_uniform(moe + linear + ".bias", fan_in);
    }
    EXPECT_TRUE(tensors.contains(first + "enorm.weight") && tensors.contains(first + "hnorm.weight"));
    EXPECT_TRUE(tensors.contains(second + "final_layernorm.weight"));
    EXPECT_FALSE(tensors.contains(second + "enorm.weight") || tensors.contains(first + "final_layernorm.weight"));
  }
}

// initialize_weights draw by draw, as a reader of upstream would write it down: which tensors, in which order, twice
// the gate, down before up in every MLP but up before down in the experts, the MTP sublayers after the head.
TEST(Initialize, DrawsInUpstreamsOrder) {
  const NemotronV3Config config = small_config(kFloat32);
  CpuGenerator generator(9);
  const ModelTensors constructed = construct(config, generator);
  CpuGenerator by_hand = generator;
  ModelTensors tensors = constructed;
  initialize_weights(tensors, config, generator);

  std::vector<float> drawn;
  const auto normal = [&](const std::string& name, bool rescaled = false) {
    drawn.resize(tensors.at(name).values.size());
    by_hand.normal(drawn, kFloat32, 0, config.initializer_range);
    for (float& v : drawn) v = rescaled ? v / 2 : v;  // sqrt of 4 layers
    const auto got = tensors.at(name).values.span();
    EXPECT_TRUE(std::equal(got.begin(), got.end(), drawn.begin(), drawn.end())) << name;
  };
  const auto skip = [&](const std::string& name) {
    drawn.resize(tensors.at(name).values.size());
    by_hand.normal(drawn, kFloat32, 0, config.initializer_range);
  };
  const auto moe = [&](const std::string& mixer) {
    skip(mixer + "gate.weight");
    normal(mixer + "experts.gate_and_up_projs");
    normal(mixer + "experts.down_projs", /*rescaled=*/true);
    normal(mixer + "shared_experts.down_proj.weight", /*rescaled=*/true);
    normal(mixer + "shared_experts.up_proj.weight");
    normal(mixer + "fc1_latent_proj.weight");
    normal(mixer + "fc2_latent_proj.weight");
    normal(mixer + "gate.weight");
  };
  normal("model.embed_tokens.weight");
  drawn.resize(config.mamba_num_heads);  // layer 0, mamba: dt_bias
  by_hand.uniform(drawn, kFloat32, 0, 1);
  moe("model.layers.1.mixer.");
  normal("model.layers.3.mixer.down_proj.weight", /*rescaled=*/true);  // layer 2, attention, draws nothing
  normal("model.layers.3.mixer.up_proj.weight");
  normal("lm_head.weight");
  for (const int sublayer : {0, 2}) {
    normal(mtp_prefix(sublayer) + "eh_proj.weight");
    moe(mtp_prefix(sublayer + 1) + "mixer.");
  }
  EXPECT_EQ(by_hand.random(), generator.random());
}

TEST(Initialize, MtpNormsAreBornInBfloat16AndCastAtTheEnd) {
  const NemotronV3Config config = small_config(kFloat32);
  CpuGenerator generator(1);
  ModelTensors tensors = construct(config, generator);
  EXPECT_EQ(tensors.at("mtp.layers.0.enorm.weight").dtype, kBfloat16);
  EXPECT_EQ(tensors.at("mtp.layers.1.final_layernorm.weight").dtype, kBfloat16);
  EXPECT_EQ(tensors.at("mtp.layers.0.norm.weight").dtype, kFloat32);
  initialize_weights(tensors, config, generator);
  for (const auto& [name, tensor] : tensors) EXPECT_EQ(tensor.dtype, kFloat32) << name;
}

TEST(Initialize, ARepeatedMtpLayerStandsOnce) {
  NemotronV3Config config = small_config(kFloat32);
  config.mtp_use_repeated_layer = true;
  CpuGenerator generator(1);
  const ModelTensors tensors = initialize(config, generator);
  EXPECT_TRUE(tensors.contains("mtp.layers.1.norm.weight"));
  EXPECT_FALSE(tensors.contains("mtp.layers.2.norm.weight"));
}

TEST(Initialize, CastsAllButTheFloat32Tensors) {
  CpuGenerator generator(1);
  const ModelTensors tensors = initialize(small_config(kBfloat16), generator);
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(tensor.dtype, is_kept_in_float32(name) ? kFloat32 : kBfloat16) << name;
    for (const float v : tensor.values.span()) EXPECT_FALSE(std::isnan(v)) << name;
    EXPECT_EQ(tensor.flags.is_buffer, name.ends_with("e_score_correction_bias")) << name;
  }
}

// A second call leaves dt_bias alone, draws the normal tensors anew, and divides once more, in the dtype of now.
TEST(Initialize, SecondCall) {
  const NemotronV3Config config = small_config(kBfloat16);
  CpuGenerator generator(1);
  const ModelTensors once = initialize(config, generator);
  ModelTensors twice = once;
  CpuGenerator continued = generator;
  initialize_weights(twice, config, generator);
  const std::string mamba = "model.layers.0.mixer.", attention = "model.layers.2.mixer.", mlp = "model.layers.3.mixer.";
  for (const std::string& name :
       {mamba + "_fp32_params.dt_bias", mamba + "_fp32_params.A_log", mamba + "in_proj.weight", mamba + "conv1d.bias",
        attention + "q_proj.weight", mlp + "up_proj.bias"})
    EXPECT_TRUE(same(once, twice, name)) << name;
  for (const std::string& name : {mamba + "out_proj.weight", attention + "o_proj.weight"}) {
    for (Index i = 0; i < once.at(name).values.size(); ++i)
      EXPECT_EQ(twice.at(name).values[i], rescale_residual(once.at(name).values[i], 4, kBfloat16, Device::cpu)) << name;
  }
  // The first draw of the second call is the embedding's.
  std::vector<float> embedding(once.at("model.embed_tokens.weight").values.size());
  continued.normal(embedding, kBfloat16, 0, config.initializer_range);
  const auto got = twice.at("model.embed_tokens.weight").values.span();
  EXPECT_TRUE(std::equal(got.begin(), got.end(), embedding.begin(), embedding.end()));
  EXPECT_FALSE(same(once, twice, mlp + "up_proj.weight"));
}

TEST(Initialize, DefaultDtypeDecidesWhereMambaIsDrawn) {
  const NemotronV3Config config = small_config(kBfloat16);
  CpuGenerator a(1), b(1);
  const ModelTensors in_float32 = construct(config, a);
  const ModelTensors in_bfloat16 = construct(config, b, {.default_dtype = kBfloat16});
  EXPECT_EQ(in_float32.at("model.layers.0.mixer.in_proj.weight").dtype, kFloat32);
  EXPECT_EQ(in_bfloat16.at("model.layers.0.mixer.in_proj.weight").dtype, kBfloat16);
  EXPECT_EQ(in_bfloat16.at("model.layers.0.mixer.norm.weight").dtype, kBfloat16);
  EXPECT_EQ(in_bfloat16.at("model.layers.0.mixer._fp32_params.A_log").dtype, kFloat32);
}

TEST(Initialize, TransformerEngineLinears) {
  const NemotronV3Config config = small_config(kFloat32);
  CpuGenerator generator(1);
  const ModelTensors tensors = construct(config, generator, {.transformer_engine_linears = true});
  const std::string attention = "model.layers.2.mixer.";
  for (const float v : tensors.at(attention + "q_proj.bias").values.span()) EXPECT_EQ(v, 0);
  const FitAnswer q = goodness_of_fit(tensors.at(attention + "q_proj.weight").values.span(),
                                      {.distribution = normal_distribution(0, 0.023)});
  EXPECT_TRUE(q.accepted) << q.text;
  const double bound = kaiming_weight_bound(24);  // Mamba's linears are torch's
  const FitAnswer in = goodness_of_fit(tensors.at("model.layers.0.mixer.in_proj.weight").values.span(),
                                       {.distribution = uniform_distribution(-bound, bound)});
  EXPECT_TRUE(in.accepted) << in.text;
}

TEST(Initialize, RefusesWhatItCannotDraw) {
  NemotronV3Config config = small_config(ModelDtype::float64);
  CpuGenerator generator(1);
  EXPECT_THROW(construct(config, generator), std::invalid_argument);
  config.torch_dtype = kFloat32;
  ModelTensors tensors = construct(config, generator);
  tensors.erase("lm_head.weight");
  EXPECT_THROW(initialize_weights(tensors, config, generator), std::invalid_argument);
  config.n_groups = 5;
  EXPECT_THROW(construct(config, generator), std::invalid_argument);
}

// ---- the same, by distribution: both devices' generators, every option

TEST(CheckInitialisation, AcceptsBothGenerators) {
  for (const ModelDtype dtype : {kFloat32, kBfloat16}) {
    for (const bool te : {false, true}) {
      for (const bool rescale : {false, true}) {
        NemotronV3Config config = small_config(dtype);
        config.rescale_prenorm_residual = rescale;
        const InitOptions options = {.transformer_engine_linears = te};
        CpuGenerator cpu(17);
        CudaGenerator cuda(17, {.multiprocessors = 2, .threads_per_multiprocessor = 512});
        for (RandomSource* source : {static_cast<RandomSource*>(&cpu), static_cast<RandomSource*>(&cuda)})
          for (const TensorFit& fit : check_initialisation(initialize(config, *source, options), config, options))
            EXPECT_TRUE(fit.answer.accepted) << fit.name << ": " << fit.answer.text;
      }
    }
  }
}

// Drawn in bfloat16, divided, rounded again: of a large tensor the second rounding shows, and is no mistake.
TEST(CheckInitialisation, AcceptsWhatIsRoundedTwice) {
  NemotronV3Config config = small_config(kBfloat16);
  config.layers_block_type.resize(13, BlockType::mlp);
  const ParameterSpec spec = {.name = "model.layers.2.mixer.o_proj.weight",
                              .shape = {2048, 2048},
                              .construction = Construction::linear_weight,
                              .fan_in = 2048,
                              .flags = {}};
  CpuGenerator generator(2);
  std::vector<float> values(2048 * 2048);
  const double bound = kaiming_weight_bound(spec.fan_in);
  generator.uniform(values, kBfloat16, -bound, bound);
  for (float& v : values) v = rescale_residual(v, 13, kBfloat16, Device::cpu);
  FitQuestion question = expected_fit(spec, config, {});
  EXPECT_TRUE(goodness_of_fit(values, question).accepted) << goodness_of_fit(values, question).text;
  question.slack_ulps = 0;
  EXPECT_LT(goodness_of_fit(values, question).distance_p_value, 1e-3);
}

// Each mistake is found in the tensor that has it, and in no other.
TEST(CheckInitialisation, FindsMistakes) {
  NemotronV3Config config = small_config(kBfloat16);
  config.layers_block_type = parse_pattern("ME*-ME*-ME*-");
  config.hidden_size = 96;
  CpuGenerator generator(5);
  const ModelTensors right = initialize(config, generator);
  const auto refused = [&](const std::string& name, auto spoil) {
    ModelTensors tensors = right;
    spoil(tensors);
    std::vector<std::string> names;
    for (const TensorFit& fit : check_initialisation(tensors, config))
      if (!fit.answer.accepted) names.push_back(fit.name);
    EXPECT_EQ(names, std::vector<std::string>{name});
  };
  const auto scale = [](const std::string& name, float factor) {
    return [=](ModelTensors& t) {
      for (float& v : t.at(name).values.span()) v *= factor;
    };
  };
  const auto set = [](const std::string& name, Index i, float value) {
    return [=](ModelTensors& t) { t.at(name).values[i] = value; };
  };
  const std::string mamba = "model.layers.0.mixer.", moe = "model.layers.1.mixer.", attention = "model.layers.2.mixer.";
  const float root = std::sqrt(12.0f);
  for (const std::string& name : {mamba + "out_proj.weight", attention + "o_proj.weight", moe + "experts.down_projs"})
    refused(name, scale(name, root));  // not rescaled
  refused(moe + "fc2_latent_proj.weight",
          scale(moe + "fc2_latent_proj.weight", 1 / root));                      // rescaled, which it is not
  refused(attention + "q_proj.bias", set(attention + "q_proj.bias", 1, 0.01f));  // not cleared
  refused(mamba + "_fp32_params.D", set(mamba + "_fp32_params.D", 5, 0));
  refused(mamba + "_fp32_params.A_log", set(mamba + "_fp32_params.A_log", 3, 1.25f));
  refused(mamba + "_fp32_params.dt_bias", set(mamba + "_fp32_params.dt_bias", 2, 1));  // as constructed
  refused("model.norm.weight", set("model.norm.weight", 7, 1.0078125f));
  refused("lm_head.weight", [](ModelTensors& t) { t.erase("lm_head.weight"); });
  refused("lm_head.weight", set("lm_head.weight", 0, std::nanf("")));
}

}  // namespace
}  // namespace assay::reference
