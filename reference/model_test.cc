#include "reference/model.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/testing/layer_check.h"
#include "reference/testing/small_model.h"

namespace assay::reference {
namespace {

using testing::check_fixture;
using testing::Fixture;
using testing::inner_product;
using testing::max_difference;
using testing::Random;
using testing::Results;
using testing::small_config;
using testing::small_parameters;

constexpr double kExact = 1e-11;  // equal but for the order of additions, through five layers

Tensor<Index> random_ids(Random& random, Index batch, Index seq_len, Index vocab) {
  Tensor<Index> ids({batch, seq_len});
  for (Index& id : ids.span()) id = random.integer(0, vocab - 1);
  return ids;
}

template <class U>
Tensor<U> columns(const Tensor<U>& t, Index begin, Index end) {
  const Index batch = t.dim(0), seq_len = t.dim(1), each = batch * seq_len == 0 ? 0 : t.size() / (batch * seq_len);
  Shape shape = t.shape();
  shape[1] = end - begin;
  Tensor<U> part(shape);
  for (Index b = 0; b < batch; ++b)
    std::copy_n(t.data() + (b * seq_len + begin) * each, (end - begin) * each, part.data() + b * (end - begin) * each);
  return part;
}

ModelInput<double> of_ids(Tensor<Index> ids) {
  ModelInput<double> input;
  input.input_ids = std::move(ids);
  return input;
}

struct Model {
  NemotronV3Config config;
  Quirks quirks;
  Parameters<double> p;

  Model(const std::string& pattern, Random& random, bool clamps = false) : config(small_config(pattern)) {
    if (!clamps) config.time_step_limit[0] = 0, config.time_step_limit[1] = INFINITY;
    p = small_parameters(config, random);
  }
  Tensor<double> hidden_states(const ModelInput<double>& input) const {
    return backbone_forward<double>({}, config, quirks, p, input);
  }
  Tensor<double> step(const ModelInput<double>& input, HybridCache<double>& cache) const {
    return backbone_step<double>({}, config, quirks, p, input, cache);
  }
  // Through the cache in pieces that end at `cuts`.
  Tensor<double> in_pieces(const Tensor<Index>& ids, const std::vector<Index>& cuts) const {
    auto cache = make_cache<double>(config, ids.dim(0));
    Tensor<double> all({ids.dim(0), ids.dim(1), config.hidden_size});
    Index begin = 0;
    for (Index end : cuts) {
      const Tensor<double> part = step(of_ids(columns(ids, begin, end)), cache);
      for (Index b = 0; b < ids.dim(0); ++b)
        std::copy_n(&part(b, 0, 0), (end - begin) * config.hidden_size, &all(b, begin, 0));
      begin = end;
    }
    return all;
  }
};

// Three chunks, every layer type twice, biases, latent experts, groups, clamped dt.
void check_model_gradients(const std::string& pattern, const std::function<void(ModelInput<double>&)>& prepare,
                           Index batch, bool float32_stream) {
  Random random(1);
  Model model(pattern, random, true);
  model.config.residual_in_fp32 = float32_stream;
  ModelInput<double> input = of_ids(random_ids(random, batch, 11, model.config.vocab_size));
  prepare(input);
  Tensor<Index> labels = random_ids(random, batch, 11, model.config.vocab_size);
  labels(0, 5) = kIgnoredTarget;
  const Numerics<double> num;
  BackboneSaved<double> saved;
  const Tensor<double> h = backbone_forward<double>(num, model.config, {}, model.p, input, &saved);
  const Loss<double> loss = in_model_loss(num, lm_head_forward(num, model.p, h), labels);
  Parameters<double> d_p;
  backbone_backward<double>(num, model.config, {}, model.p, input, saved,
                            lm_head_backward(num, model.p, h, loss.d_logits, d_p), d_p);
  for (Index i = 0; i < model.config.num_hidden_layers(); ++i)  // a choice near a tie must not flip under a small step
    if (model.config.layers_block_type[i] == BlockType::moe)
      input.expert_indices[i] = std::get<MoeSaved<double>>(saved.blocks[i].mixer).router.indices;
  const auto at = [&] { return in_model_loss(num, lm_head_forward(num, model.p, model.hidden_states(input)), labels).value; };
  testing::check_gradients(model.p, d_p, at, 1e-6, 8);
  Tensor<double> no_input;
  testing::check_adjoint(model.p, d_p, no_input, {}, at);
}

TEST(Model, GradientsAreFiniteDifferences) {
  check_model_gradients(
      "M*-E", [](ModelInput<double>&) {}, 2, true);
}
TEST(Model, GradientsAreFiniteDifferencesWithPadding) {
  check_model_gradients(
      "*MEM",
      [](ModelInput<double>& input) {
        input.attention_mask = Tensor<std::uint8_t>({2, 11}, 1);
        for (Index t : {0, 1}) (*input.attention_mask)(0, t) = 0;
        (*input.attention_mask)(1, 10) = 0;
      },
      2, false);
}
TEST(Model, GradientsAreFiniteDifferencesWithDocuments) {
  check_model_gradients(
      "M*E",
      [](ModelInput<double>& input) {
        input.cu_seqlens = {0, 3, 7, 11};
      },
      1, false);
}

TEST(Model, TrainingPrefillAndDecodeAgree) {
  Random random(2);
  for (const char* pattern : {"M*-EM", "*", "MM", "E-", ""}) {  // the third has no attention to count tokens by
    const Model model(pattern, random);
    for (const Index seq_len : {1, 3, 4, 5, 13}) {
      const Tensor<Index> ids = random_ids(random, 2, seq_len, model.config.vocab_size);
      const Tensor<double> trained = model.hidden_states(of_ids(ids));
      EXPECT_LE(max_difference(model.in_pieces(ids, {seq_len}), trained), kExact) << pattern;
      std::vector<Index> one_by_one;
      for (Index t = 1; t <= seq_len; ++t) one_by_one.push_back(t);
      EXPECT_LE(max_difference(model.in_pieces(ids, one_by_one), trained), kExact) << pattern;
      if (seq_len == 13) {
        EXPECT_LE(max_difference(model.in_pieces(ids, {5, 13}), trained), kExact) << pattern;
        EXPECT_LE(max_difference(model.in_pieces(ids, {2, 4, 5, 6, 11, 13}), trained), kExact) << pattern;
      }
    }
  }
}

TEST(Model, DecodeDoesNotClampDt) {
  Random random(3);
  Model model("M", random);
  model.config.time_step_limit[0] = 0.5, model.config.time_step_limit[1] = 0.6;  // binds for every token and head
  const Tensor<Index> ids = random_ids(random, 1, 6, model.config.vocab_size);
  const Tensor<double> trained = model.hidden_states(of_ids(ids)), decoded = model.in_pieces(ids, {1, 2, 3, 4, 5, 6});
  EXPECT_LE(max_difference(columns(decoded, 0, 1), columns(trained, 0, 1)),
            kExact);  // a fresh cache is a prefill: clamped
  EXPECT_GT(max_difference(columns(decoded, 1, 6), columns(trained, 1, 6)), 1e-3);
  model.config.time_step_limit[0] = 0, model.config.time_step_limit[1] = INFINITY;
  const Tensor<double> open = model.in_pieces(ids, {1, 2, 3, 4, 5, 6});
  EXPECT_GT(max_difference(open, decoded), 1e-3);  // only by what the first token left in the state
}

TEST(Model, AContinuedPrefillForgetsOnRequest) {
  Random random(4);
  Model mamba("M", random);
  const Tensor<Index> ids = random_ids(random, 1, 12, mamba.config.vocab_size);
  mamba.quirks.continued_prefill_forgets = true;
  // The second piece begins as if nothing had been: it is its own prompt.
  EXPECT_LE(
      max_difference(columns(mamba.in_pieces(ids, {5, 12}), 5, 12), mamba.hidden_states(of_ids(columns(ids, 5, 12)))),
      kExact);
  // Decode still goes on where the last piece stopped.
  EXPECT_LE(max_difference(columns(mamba.in_pieces(ids, {5, 11, 12}), 11, 12),
                           columns(mamba.hidden_states(of_ids(columns(ids, 5, 12))), 6, 7)),
            kExact);

  Model attention("*", random);
  attention.quirks.continued_prefill_forgets = true;
  const Tensor<double> trained = attention.hidden_states(of_ids(ids)), pieces = attention.in_pieces(ids, {5, 12});
  EXPECT_GT(max_difference(columns(pieces, 5, 11), columns(trained, 5, 11)), 1e-3);      // sees its own future
  EXPECT_LE(max_difference(columns(pieces, 11, 12), columns(trained, 11, 12)), kExact);  // the last token has none
}

TEST(Model, ReorderThenDecodeIsDecodeThenReorder) {
  Random random(5);
  const Model model("M*E", random);
  const Tensor<Index> ids = random_ids(random, 3, 7, model.config.vocab_size);
  const std::vector<Index> rows = {2, 0, 2};
  auto cache = make_cache<double>(model.config, 3), reordered = cache;
  model.step(of_ids(columns(ids, 0, 6)), cache);
  reordered = cache;
  reorder(reordered, rows);
  Tensor<Index> next = columns(ids, 6, 7), next_reordered = next;
  for (Index b = 0; b < 3; ++b) next_reordered[b] = next[rows[b]];
  const Tensor<double> out = model.step(of_ids(next), cache),
                       out_reordered = model.step(of_ids(next_reordered), reordered);
  for (Index b = 0; b < 3; ++b)
    for (Index d = 0; d < model.config.hidden_size; ++d) EXPECT_EQ(out_reordered(b, 0, d), out(rows[b], 0, d));
}

TEST(Model, PackedDocumentsAreSeparateDocuments) {
  Random random(6);
  Model model("M*-EM", random);
  const Tensor<Index> ids = random_ids(random, 1, 17, model.config.vocab_size);
  ModelInput<double> packed = of_ids(ids);
  packed.cu_seqlens = {0, 6, 7, 17};
  const Tensor<double> together = model.hidden_states(packed);
  for (std::size_t m = 0; m < 3; ++m) {
    const Index begin = packed.cu_seqlens[m], end = packed.cu_seqlens[m + 1];
    EXPECT_LE(max_difference(columns(together, begin, end), model.hidden_states(of_ids(columns(ids, begin, end)))),
              kExact);
  }
  // Padded slots: the documents' own tokens are what they were.
  ModelInput<double> padded = of_ids(Tensor<Index>({1, 24}));
  padded.cu_seqlens = packed.cu_seqlens;
  padded.cu_seqlens_padded = {0, 8, 12, 24};
  for (std::size_t m = 0; m < 3; ++m)
    std::copy(ids.data() + packed.cu_seqlens[m], ids.data() + packed.cu_seqlens[m + 1],
              padded.input_ids.data() + padded.cu_seqlens_padded[m]);
  const Tensor<double> in_slots = model.hidden_states(padded);
  for (std::size_t m = 0; m < 3; ++m) {
    const Index begin = packed.cu_seqlens[m], length = packed.cu_seqlens[m + 1] - begin,
                slot = padded.cu_seqlens_padded[m];
    EXPECT_LE(max_difference(columns(in_slots, slot, slot + length), columns(together, begin, begin + length)), kExact);
  }
  // SDPA's attention crosses documents; only the first is untouched.
  model.quirks.attention_ignores_cu_seqlens = true;
  const Tensor<double> leaking = model.hidden_states(packed);
  EXPECT_LE(max_difference(columns(leaking, 0, 6), columns(together, 0, 6)), kExact);
  EXPECT_GT(max_difference(columns(leaking, 6, 17), columns(together, 6, 17)), 1e-3);
}

TEST(Model, AutomaticDocumentsCutLeftPaddedRows) {
  Random random(7);
  Model model("M", random);
  ModelInput<double> input = of_ids(random_ids(random, 1, 10, model.config.vocab_size));
  input.attention_mask = Tensor<std::uint8_t>({1, 10}, 1);
  for (Index t = 0; t < 3; ++t) (*input.attention_mask)(0, t) = 0;
  const Tensor<double> plain = model.hidden_states(input);
  model.quirks.automatic_cu_seqlens = true;  // boundary at 7 = the number of real tokens
  const Tensor<double> cut = model.hidden_states(input);
  EXPECT_LE(max_difference(columns(cut, 0, 7), columns(plain, 0, 7)), kExact);
  EXPECT_GT(max_difference(columns(cut, 7, 10), columns(plain, 7, 10)), 1e-4);
}

TEST(Model, CausalityRowsAndRightPadding) {
  Random random(8);
  const Model model("M*-EM", random);
  const Tensor<Index> ids = random_ids(random, 2, 12, model.config.vocab_size);
  const Tensor<double> out = model.hidden_states(of_ids(ids));
  Tensor<Index> changed = ids;
  changed(1, 7) = (changed(1, 7) + 1) % model.config.vocab_size;
  const Tensor<double> out_changed = model.hidden_states(of_ids(changed));
  EXPECT_LE(max_difference(columns(out, 0, 7), columns(out_changed, 0, 7)), kExact);
  EXPECT_GT(max_difference(columns(out, 7, 12), columns(out_changed, 7, 12)), 1e-3);
  for (Index i = 0; i < 12 * model.config.hidden_size; ++i) EXPECT_NEAR(out[i], out_changed[i], kExact);  // row 0
  ModelInput<double> padded = of_ids(changed);
  padded.attention_mask = Tensor<std::uint8_t>({2, 12}, 1);
  for (Index t = 7; t < 12; ++t) (*padded.attention_mask)(1, t) = 0;
  EXPECT_LE(max_difference(columns(model.hidden_states(padded), 0, 7), columns(out, 0, 7)), kExact);
}

TEST(Model, GenerationMasksPaddingUnlessAskedToAttendToIt) {
  Random random(9);
  Model model("*-", random);
  const Tensor<Index> ids = random_ids(random, 1, 9, model.config.vocab_size);
  const auto decoded = [&](bool padded) {
    auto cache = make_cache<double>(model.config, 1);
    ModelInput<double> prompt = of_ids(columns(ids, padded ? 0 : 3, 8));
    if (padded) {
      prompt.attention_mask = Tensor<std::uint8_t>({1, 8}, 1);
      for (Index t = 0; t < 3; ++t) (*prompt.attention_mask)(0, t) = 0;
    }
    model.step(prompt, cache);
    return model.step(of_ids(columns(ids, 8, 9)), cache);
  };
  EXPECT_LE(max_difference(decoded(true), decoded(false)), kExact);
  model.quirks.generation_attends_padding = true;
  EXPECT_GT(max_difference(decoded(true), decoded(false)), 1e-3);
}

TEST(Model, MaskedTokensHaveNoEmbeddingGradient) {
  Random random(10);
  const Model model("M*M", random);
  ModelInput<double> input = of_ids(random_ids(random, 2, 9, model.config.vocab_size));
  input.attention_mask = Tensor<std::uint8_t>({2, 9}, 1);
  Tensor<Index> labels = input.input_ids;
  for (Index t = 6; t < 9; ++t) (*input.attention_mask)(0, t) = 0, labels(0, t) = kIgnoredTarget;
  BackboneSaved<double> saved;
  const Numerics<double> num;
  const Tensor<double> h = backbone_forward<double>(num, model.config, {}, model.p, input, &saved);
  Parameters<double> d_p;
  const auto loss = recipe_loss(num, lm_head_forward(num, model.p, h), labels, 15);
  const Tensor<double> d = backbone_backward<double>(num, model.config, {}, model.p, input, saved,
                                                     lm_head_backward(num, model.p, h, loss.d_logits, d_p), d_p);
  EXPECT_EQ(testing::rms(Tensor<double>(columns(d, 6, 9)).span().first(3 * model.config.hidden_size)), 0);
  EXPECT_GT(testing::rms(columns(d, 0, 6)), 1e-4);
}

TEST(Model, LogitsToKeep) {
  Random random(11);
  const Model model("-", random);
  const Tensor<double> h = model.hidden_states(of_ids(random_ids(random, 2, 6, model.config.vocab_size)));
  const Numerics<double> num;
  const Tensor<double> all = lm_head_forward(num, model.p, h);
  EXPECT_LE(max_difference(lm_head_forward(num, model.p, h, 2), columns(all, 4, 6)), kExact);
  EXPECT_LE(max_difference(lm_head_forward(num, model.p, h, 9), all), kExact);
  const Tensor<double> some = lm_head_forward(num, model.p, h, std::vector<Index>{5, 0});
  EXPECT_LE(max_difference(columns(some, 0, 1), columns(all, 5, 6)), kExact);
  EXPECT_LE(max_difference(columns(some, 1, 2), columns(all, 0, 1)), kExact);
  EXPECT_THROW(lm_head_forward(num, model.p, h, std::vector<Index>{6}), std::invalid_argument);
}

TEST(Model, LossWithoutTargetsIsZero) {
  const Tensor<double> logits({1, 3, 4}, 1.0);
  const Tensor<Index> labels({1, 3}, kIgnoredTarget);
  for (const Loss<double>& loss :
       {in_model_loss(Numerics<double>{}, logits, labels), recipe_loss(Numerics<double>{}, logits, labels, 0)}) {
    EXPECT_EQ(loss.value, 0);
    EXPECT_EQ(testing::rms(loss.d_logits), 0);
  }
}

TEST(Model, EmbeddingsInsteadOfIds) {
  Random random(12);
  const Model model("M*", random);
  ModelInput<double> ids = of_ids(random_ids(random, 2, 5, model.config.vocab_size)), embeddings;
  embeddings.embeddings = Tensor<double>({2, 5, model.config.hidden_size});
  for (Index t = 0; t < 10; ++t)
    std::copy_n(&model.p["model.embed_tokens.weight"](ids.input_ids[t], 0), model.config.hidden_size,
                embeddings.embeddings->data() + t * model.config.hidden_size);
  EXPECT_EQ(max_difference(model.hidden_states(ids), model.hidden_states(embeddings)), 0);
}

TEST(Model, GreedyTakesTheLowestOfEqualLogits) {
  EXPECT_EQ(greedy_tokens(Tensor<double>({2, 4}, {1, 3, 3, 2, -1, -1, -2, -1})), (std::vector<Index>{1, 0}));
}

TEST(Model, GenerationIsArgmaxOverTheWholeSequence) {
  Random random(13);
  const Model model("M*E", random);
  const auto generated =
      generate_greedily<double>({}, model.config, {}, model.p, random_ids(random, 2, 5, model.config.vocab_size), 6);
  const Tensor<double> logits = lm_head_forward<double>({}, model.p, model.hidden_states(of_ids(generated.tokens)));
  for (Index b = 0; b < 2; ++b)
    for (Index t = 4; t < 10; ++t) EXPECT_EQ(greedy_tokens(columns(logits, t, t + 1))[b], generated.tokens(b, t + 1));
}

// ---- recordings

struct RunTraining {
  template <class T>
  Results<T> operator()(const Numerics<T>& num, const Parameters<T>& p, const Fixture& fixture) const {
    const NemotronV3Config config = fixture.model_config();
    ModelInput<T> input;
    input.input_ids = fixture["input.input_ids"].as<Index>();
    BackboneSaved<T> saved;
    const Tensor<T> h = backbone_forward<T>(num, config, {}, p, input, &saved);
    Results<T> results;
    results["output.logits"] = lm_head_forward(num, p, h);
    const Loss<T> loss = in_model_loss(num, results["output.logits"], fixture["input.labels"].as<Index>());
    results["output.loss"] = Tensor<T>({}, {loss.value});
    Parameters<T> d_p;
    backbone_backward<T>(num, config, {}, p, input, saved, lm_head_backward(num, p, h, loss.d_logits, d_p), d_p);
    testing::add_gradients(results, d_p);
    return results;
  }
};

struct RunPrefillAndDecode {
  template <class T>
  Results<T> operator()(const Numerics<T>& num, const Parameters<T>& p, const Fixture& fixture) const {
    const NemotronV3Config config = fixture.model_config();
    ModelInput<T> input;
    input.input_ids = fixture["input.input_ids"].as<Index>();
    HybridCache<T> cache = make_cache<T>(config, input.input_ids.dim(0));
    Results<T> results;
    results["output.logits"] = lm_head_forward(num, p, backbone_step<T>(num, config, {}, p, input, cache));
    if (const auto* beams = fixture.find("input.beam_idx"))
      reorder(cache, std::vector<Index>(beams->data.begin(), beams->data.end()));
    for (int step = 0; step < fixture.attributes.at("decode_steps").get<int>(); ++step) {
      const std::string prefix = "decode." + std::to_string(step) + ".";
      input.input_ids = fixture[prefix + "input.input_ids"].as<Index>();
      results[prefix + "output.logits"] = lm_head_forward(num, p, backbone_step<T>(num, config, {}, p, input, cache));
    }
    return results;
  }
};

class ModelFixture : public ::testing::TestWithParam<std::string> {};
TEST_P(ModelFixture, IsReproduced) {
  if (GetParam().starts_with("model_train"))
    check_fixture(GetParam(), {.relative_l2 = 1e-5}, RunTraining{});
  else
    check_fixture(GetParam(), {.relative_l2 = 1e-5}, RunPrefillAndDecode{});
}
INSTANTIATE_TEST_SUITE_P(Recorded, ModelFixture, ::testing::ValuesIn(testing::fixture_names("model_")),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace assay::reference
