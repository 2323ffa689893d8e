#include "reference/block.h"

#include <gtest/gtest.h>

#include "reference/testing/layer_check.h"
#include "reference/testing/small_model.h"

namespace assay::reference {
namespace {

using testing::Fixture;
using testing::inner_product;
using testing::max_difference;
using testing::Random;
using testing::Results;
using testing::small_config;
using testing::small_parameters;

constexpr BlockType kTypes[] = {BlockType::mamba, BlockType::attention, BlockType::mlp, BlockType::moe};

TEST(Block, GradientsAreFiniteDifferencesForEveryTypeWithMaskAndDocuments) {
  Random random(1);
  const NemotronV3Config config = small_config("M*-E");
  for (Index i = 0; i < 4; ++i)
    for (const bool masked : {false, true}) {
      Parameters<double> all = small_parameters(config, random);
      Parameters<double> p;  // of this block alone
      const std::string prefix = "model.layers." + std::to_string(i) + ".";
      for (const auto& [name, parameter] : all.entries())
        if (name.starts_with(prefix)) p.set(name.substr(prefix.size()), parameter.value, parameter.flags);
      Tensor<double> h = random.tensor<double>({2, 11, config.hidden_size});
      const Tensor<double> d_out = random.tensor<double>(h.shape());
      MixerInputs<double> inputs;
      if (masked) {
        Tensor<std::uint8_t> mask({2, 11}, 1);
        mask(0, 0) = mask(1, 9) = mask(1, 10) = 0;
        inputs.attention = AttentionMask<double>::causal_with_padding(mask);
        inputs.mamba_mask = mask;
      } else {
        inputs.seq_idx = Tensor<std::int32_t>(
            {2, 11}, std::vector<std::int32_t>{0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1});
      }
      const Numerics<double> num;
      const auto run = [&](BlockSaved<double>* saved) {
        return block_forward<double>(num, config, {}, kTypes[i], p, h, inputs, saved);
      };
      BlockSaved<double> saved;
      run(&saved);
      if (kTypes[i] == BlockType::moe) inputs.expert_indices = &std::get<MoeSaved<double>>(saved.mixer).router.indices;
      Parameters<double> d_p;
      const Tensor<double> d_h =
          block_backward<double>(num, config, {}, kTypes[i], p, inputs, saved, d_out, false, d_p);
      const auto loss = [&] { return inner_product(run(nullptr), d_out); };
      testing::check_gradients(p, d_p, loss);
      testing::check_gradient("hidden_states", h, d_h, loss, 1e-6, 20);
      testing::check_adjoint(p, d_p, h, d_h, loss);
    }
}

TEST(Block, TheStreamIsRoundedUnlessItIsKeptInFloat32) {
  Random random(2);
  for (const bool in_float32 : {false, true}) {
    NemotronV3Config config = small_config("-");
    config.residual_in_fp32 = in_float32;
    const Numerics<float> matched{.storage = Storage::bfloat16};
    Parameters<float> p;
    p.set("norm.weight", Tensor<float>({config.hidden_size}, 1));
    p.set("mixer.up_proj.weight", random.tensor<float>({config.intermediate_size, config.hidden_size}));
    p.set("mixer.down_proj.weight", random.tensor<float>({config.hidden_size, config.intermediate_size}));
    for (auto& [name, parameter] : p.entries()) matched.store(parameter.value.span());
    Tensor<float> h = random.tensor<float>({1, 3, config.hidden_size});
    matched.store(h.span());
    Tensor<float> out = block_forward<float>(matched, config, {}, BlockType::mlp, p, h, {});
    const Tensor<float> unrounded = out;
    matched.store(out.span());
    EXPECT_EQ(max_difference(out, unrounded) > 0, in_float32);
  }
}

struct RunBlock {
  template <class T>
  Results<T> operator()(const Numerics<T>& num, const Parameters<T>& p, const Fixture& fixture) const {
    const NemotronV3Config config = fixture.model_config();
    const std::string name_of_type = fixture.attributes.at("block_type");
    const BlockType type =
        *std::find_if(std::begin(kTypes), std::end(kTypes), [&](BlockType t) { return name(t) == name_of_type; });
    BlockSaved<T> saved;
    Results<T> results;
    results["output.hidden_states"] =
        block_forward<T>(num, config, {}, type, p, fixture["input.hidden_states"].as<T>(), {}, &saved);
    Parameters<T> d_p;
    results["grad.input.hidden_states"] = block_backward<T>(num, config, {}, type, p, {}, saved,
                                                            fixture["grad.output.hidden_states"].as<T>(), false, d_p);
    testing::add_gradients(results, d_p);
    return results;
  }
};

class BlockFixture : public ::testing::TestWithParam<std::string> {};
TEST_P(BlockFixture, IsReproduced) { testing::check_fixture(GetParam(), {.relative_l2 = 5e-6}, RunBlock{}); }
INSTANTIATE_TEST_SUITE_P(Recorded, BlockFixture, ::testing::ValuesIn(testing::fixture_names("block_")),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace assay::reference
