#include "reference/mtp.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/testing/layer_check.h"
#include "reference/testing/small_model.h"

namespace assay::reference {
namespace {

using testing::Fixture;
using testing::max_difference;
using testing::Random;
using testing::Results;
using testing::small_config;
using testing::small_parameters;
constexpr Index kNone = kIgnoredTarget;

NemotronV3Config mtp_config(const std::string& pattern, bool repeated) {
  NemotronV3Config config = small_config("M-");
  config.num_nextn_predict_layers = 2;
  config.mtp_layers_block_type = parse_pattern(pattern);
  config.mtp_use_repeated_layer = repeated;
  config.mtp_loss_scaling_factor = 0.3;
  config.n_group = 1;
  config.topk_group = 1;
  return config;
}

Tensor<Index> random_ids(Random& random, Index batch, Index seq_len, Index vocab) {
  Tensor<Index> ids({batch, seq_len});
  for (Index& id : ids.span()) id = random.integer(0, vocab - 1);
  return ids;
}

TEST(Mtp, TargetsShiftByTheDepthAndStayInTheirDocument) {
  const Tensor<Index> labels({1, 6}, {10, 11, 12, 13, 14, 15});
  const auto values = [](const Tensor<Index>& t) { return std::vector<Index>(t.data(), t.data() + t.size()); };
  EXPECT_EQ(values(mtp_targets(labels, 1)), (std::vector<Index>{11, 12, 13, 14, 15, kNone}));
  EXPECT_EQ(values(mtp_targets(labels, 7)), std::vector<Index>(6, kNone));
  const Tensor<std::int32_t> documents({1, 6}, {0, 0, 0, 1, 1, 1});
  EXPECT_EQ(values(mtp_targets(labels, 2, &documents)), (std::vector<Index>{12, kNone, kNone, 15, kNone, kNone}));
}

TEST(Mtp, GradientsAreFiniteDifferences) {
  for (const auto& [pattern, repeated, documents, in_float32] :
       {std::tuple{"*E", false, false, false}, {"*-", true, false, true}, {"M", false, true, false}}) {
    Random random(1);
    NemotronV3Config config = mtp_config(pattern, repeated);
    config.residual_in_fp32 = in_float32;
    Parameters<double> p = small_parameters(config, random);
    ModelInput<double> input;
    input.input_ids = random_ids(random, documents ? 1 : 2, 9, config.vocab_size);
    if (documents) input.cu_seqlens = {0, 4, 9};
    const Tensor<Index> labels = random_ids(random, input.input_ids.dim(0), 9, config.vocab_size);
    const Numerics<double> num;
    Parameters<double> d_p, unused;
    training_step<double>(num, config, {}, p, input, labels, 15, d_p);
    const auto loss = [&] { return training_step<double>(num, config, {}, p, input, labels, 15, unused).loss.total; };
    testing::check_gradients(p, d_p, loss, 1e-6, 8);
    Tensor<double> no_input;
    testing::check_adjoint(p, d_p, no_input, {}, loss);
  }
}

TEST(Mtp, GivenEmbeddingsGetTheGradientOfTheirIds) {
  Random random(2);
  const NemotronV3Config config = mtp_config("*E", false);
  const Parameters<double> p = small_parameters(config, random);
  ModelInput<double> ids, embeddings;
  ids.input_ids = random_ids(random, 2, 7, config.vocab_size);
  // Without id 0 in the roll the two agree: give both the same tail by making id 0's embedding zero.
  Parameters<double> zeroed = p;
  for (Index d = 0; d < config.hidden_size; ++d) zeroed["model.embed_tokens.weight"](0, d) = 0;
  embeddings.embeddings = Tensor<double>({2, 7, config.hidden_size});
  for (Index t = 0; t < 14; ++t)
    std::copy_n(&zeroed["model.embed_tokens.weight"](ids.input_ids[t], 0), config.hidden_size,
                embeddings.embeddings->data() + t * config.hidden_size);
  const Tensor<Index> labels = random_ids(random, 2, 7, config.vocab_size);
  Parameters<double> d_ids, d_embeddings;
  const auto by_id = training_step<double>({}, config, {}, zeroed, ids, labels, 14, d_ids);
  const auto by_embedding = training_step<double>({}, config, {}, zeroed, embeddings, labels, 14, d_embeddings);
  EXPECT_EQ(by_id.loss.total, by_embedding.loss.total);
  EXPECT_EQ(d_embeddings.find("model.embed_tokens.weight"), nullptr);
  Tensor<double> scattered({config.vocab_size, config.hidden_size});
  for (Index t = 0; t < 14; ++t)
    for (Index d = 0; d < config.hidden_size; ++d)
      scattered(ids.input_ids[t], d) += by_embedding.d_embeddings[t * config.hidden_size + d];
  for (Index v = 1; v < config.vocab_size; ++v)  // id 0 also stands for what is rolled in
    for (Index d = 0; d < config.hidden_size; ++d)
      EXPECT_NEAR(scattered(v, d), d_ids["model.embed_tokens.weight"](v, d), 1e-12);
}

TEST(Mtp, WithoutItsLossTheBackboneIsTrainedAlone) {
  Random random(3);
  NemotronV3Config config = mtp_config("*E", false);
  config.mtp_loss_scaling_factor = 0;
  const Parameters<double> p = small_parameters(config, random);
  ModelInput<double> input;
  input.input_ids = random_ids(random, 2, 7, config.vocab_size);
  const Tensor<Index> labels = random_ids(random, 2, 7, config.vocab_size);
  Parameters<double> with, without;
  training_step<double>({}, config, {}, p, input, labels, 14, with);
  config.num_nextn_predict_layers = 0;
  training_step<double>({}, config, {}, p, input, labels, 14, without);
  for (const auto& [name, gradient] : without.entries())
    EXPECT_LE(max_difference(with[name], gradient.value), 1e-13) << name;
  for (const auto& [name, gradient] : with.entries())
    if (name.starts_with("mtp.")) {
      EXPECT_EQ(testing::rms(gradient.value), 0) << name;
    }
}

TEST(Mtp, ARepeatedLayerIsTwoEqualLayers) {
  Random random(4);
  NemotronV3Config config = mtp_config("*E", true);
  Parameters<double> once = small_parameters(config, random), twice = once;
  for (const auto& [name, parameter] : once.entries())
    for (const auto& [from, to] : {std::pair{"mtp.layers.0.", "mtp.layers.2."}, {"mtp.layers.1.", "mtp.layers.3."}})
      if (name.starts_with(from))
        twice.set(to + name.substr(std::string(from).size()), parameter.value, parameter.flags);
  ModelInput<double> input;
  input.input_ids = random_ids(random, 2, 7, config.vocab_size);
  const Tensor<Index> labels = random_ids(random, 2, 7, config.vocab_size);
  Parameters<double> d_once, d_twice;
  const auto repeated = training_step<double>({}, config, {}, once, input, labels, 14, d_once);
  config.mtp_use_repeated_layer = false;
  const auto separate = training_step<double>({}, config, {}, twice, input, labels, 14, d_twice);
  EXPECT_EQ(repeated.loss.total, separate.loss.total);
  Tensor<double> sum = d_twice["mtp.layers.0.eh_proj.weight"];
  for (Index i = 0; i < sum.size(); ++i) sum[i] += d_twice["mtp.layers.2.eh_proj.weight"][i];
  EXPECT_LE(max_difference(sum, d_once["mtp.layers.0.eh_proj.weight"]), 1e-13);
}

// ---- recordings

// Labels are the input ids, the loss is the in-model one, and every depth adds mean(h^2).
struct RunInModelLoss {
  template <class T>
  Results<T> operator()(const Numerics<T>& num, const Parameters<T>& p, const Fixture& fixture) const {
    const NemotronV3Config config = fixture.model_config();
    ModelInput<T> input;
    input.input_ids = fixture["input.input_ids"].as<Index>();
    BackboneSaved<T> saved;
    const Tensor<T> h = backbone_forward<T>(num, config, {}, p, input, &saved);
    const MtpOutput<T> mtp = mtp_forward<T>(num, config, {}, p, input, saved.inputs, h);
    Results<T> results;
    results["output.logits"] = lm_head_forward(num, p, h);
    const Loss<T> loss = in_model_loss(num, results["output.logits"], input.input_ids);
    results["output.loss"] = Tensor<T>({}, {loss.value});
    std::vector<Tensor<T>> d_mtp;
    for (std::size_t d = 0; d < mtp.hidden_states.size(); ++d) {
      results["output.mtp." + std::to_string(d) + ".hidden_states"] = mtp.hidden_states[d];
      d_mtp.push_back(mtp.hidden_states[d]);
      for (T& value : d_mtp.back().span()) value = num.store(2 * value / static_cast<T>(d_mtp.back().size()));
    }
    Parameters<T> d_p;
    Tensor<T> d_h = lm_head_backward(num, p, h, loss.d_logits, d_p);
    const Tensor<T> d_from_mtp = mtp_backward<T>(num, config, {}, p, input, saved.inputs, mtp, d_mtp, d_p);
    for (Index i = 0; i < d_h.size(); ++i) d_h[i] = num.store(d_h[i] + d_from_mtp[i]);
    backbone_backward<T>(num, config, {}, p, input, saved, d_h, d_p);
    testing::add_gradients(results, d_p);
    return results;
  }
};

struct RunRecipeLoss {
  template <class T>
  Results<T> operator()(const Numerics<T>& num, const Parameters<T>& p, const Fixture& fixture) const {
    NemotronV3Config config = fixture.model_config();
    config.mtp_loss_scaling_factor = fixture.attributes.at("scaling_factor");
    // physical_depths counts stored sublayers.
    config.mtp_use_repeated_layer =
        fixture.attributes.at("physical_depths").get<Index>() <
        config.num_nextn_predict_layers * static_cast<Index>(config.mtp_layers_block_type.size());
    ModelInput<T> input;
    input.input_ids = fixture["input.input_ids"].as<Index>();
    Parameters<T> d_p;
    const auto step = training_step<T>(num, config, {}, p, input, fixture["input.labels"].as<Index>(),
                                       fixture.attributes.at("num_label_tokens"), d_p);
    Results<T> results;
    const auto add = [&](const std::string& name, T value) { results[name] = Tensor<T>({}, {value}); };
    add("output.loss", step.loss.total);
    add("output.loss.main", step.loss.main);
    add("output.loss.mtp", step.loss.mtp);
    for (std::size_t d = 0; d < step.loss.depths.size(); ++d) {
      add("output.loss.mtp." + std::to_string(d), step.loss.depths[d]);
      results["output.mtp." + std::to_string(d) + ".hidden_states"] = step.mtp_hidden_states[d];
    }
    results["output.logits"] = step.logits;
    testing::add_gradients(results, d_p);
    return results;
  }
};

class MtpFixture : public ::testing::TestWithParam<std::string> {};
TEST_P(MtpFixture, IsReproduced) {
  if (GetParam().starts_with("mtp_train"))
    testing::check_fixture(GetParam(), {.relative_l2 = 1e-5}, RunInModelLoss{});
  else
    testing::check_fixture(GetParam(), {.relative_l2 = 1e-5}, RunRecipeLoss{});
}
INSTANTIATE_TEST_SUITE_P(Recorded, MtpFixture, ::testing::ValuesIn(testing::fixture_names("mtp_")),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace assay::reference
