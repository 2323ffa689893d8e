// Every recording passes; a recording that is wrong in one place fails and says where; files that fit no layer are
// refused.
#include "harness/golden/golden.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "harness/core/expectation.h"
#include "harness/golden/draft.h"
#include "harness/golden/drafts.h"
#include "harness/golden/fixture_reader.h"
#include "harness/io/model_config.h"
#include "reference/moe.h"

namespace assay::harness {
namespace {

const std::filesystem::path kUpstream = std::filesystem::path(ASSAY_GOLDEN) / "upstream";

std::vector<std::string> names() {
  std::vector<std::string> result;
  for (const auto& entry : std::filesystem::directory_iterator(kUpstream))
    if (entry.path().extension() == ".json") result.push_back(entry.path().stem().string());
  std::sort(result.begin(), result.end());
  return result;
}
Fixture recorded(const std::string& name) { return read_fixture(kUpstream / (name + ".json")); }
std::string test_name(const ::testing::TestParamInfo<std::string>& info) { return info.param; }

class EveryRecording : public ::testing::TestWithParam<std::string> {};
TEST_P(EveryRecording, Passes) {
  const CaseResult result = check_fixture(kUpstream / (GetParam() + ".json"));
  EXPECT_EQ(result.status, Status::passed) << result.message;
  EXPECT_FALSE(result.tensors.empty());
}
INSTANTIATE_TEST_SUITE_P(Upstream, EveryRecording, ::testing::ValuesIn(names()), test_name);

// One of every layer and path, in both dtypes.
const std::vector<std::string> kOfEachKind = {"attention_train_bias_f32",
                                              "attention_train_padmask_bf16",
                                              "attention_train_mask4d_f32",
                                              "attention_prefill_decode_f32",
                                              "attention_prefill_decode_bf16",
                                              "mlp_train_bias_f32",
                                              "mlp_train_bias_bf16",
                                              "router_aux_update_f32",
                                              "router_sigmoid_groups_bf16",
                                              "moe_train_latent_f32",
                                              "moe_train_bias_bf16",
                                              "moe_train_padding_f32",
                                              "ssd_scan_final_f32",
                                              "ssd_scan_varlen_bf16",
                                              "ssd_scan_gated_bf16",
                                              "ssm_state_update_gated_f32",
                                              "ssm_state_update_state_bf16_f32",
                                              "mamba2_train_mask_f32",
                                              "mamba2_train_packed_bf16",
                                              "mamba2_prefill_decode_3_f32",
                                              "mamba2_prefill_decode_1_bf16",
                                              "block_train_moe_f32",
                                              "block_train_mamba_res32_bf16",
                                              "model_train_f32",
                                              "model_prefill_decode_f32",
                                              "model_reorder_bf16",
                                              "mtp_train_f32",
                                              "mtp_recipe_loss_repeated_bf16",
                                              "hf_model_f32",
                                              "init_latent_bias_bf16",
                                              "rng_cpu"};

class OneOfEachKind : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Upstream, OneOfEachKind, ::testing::ValuesIn(kOfEachKind), test_name);

bool is_compared(const Fixture& f, const HostTensor& t) { return f.layer == "rng" || is_expected(t.name); }

// Every recorded tensor but those of noise, each wrong by a few times what it may be: by so much of its rms, in the
// dtype that it has, sign by sign.
TEST_P(OneOfEachKind, AWrongTensorFailsAndIsNamed) {
  const Fixture right = recorded(GetParam());
  const bool is_bfloat16 = std::any_of(right.tensors.begin(), right.tensors.end(),
                                       [](const HostTensor& t) { return t.dtype == DType::bfloat16; });
  const double part = is_bfloat16 ? 0.2 : 2e-4;  // bfloat16 gradients of models are off by up to 0.1 without a mistake
  std::vector<std::string> compared;
  for (const HostTensor& t : right.tensors)
    if (is_compared(right, t) && t.size() > 0) compared.push_back(t.name);
  const std::size_t stride = std::max<std::size_t>(1, compared.size() / 6);
  for (std::size_t i = 0; i < compared.size(); i += stride) {
    Fixture wrong = right;
    HostTensor& t = *std::find_if(wrong.tensors.begin(), wrong.tensors.end(),
                                  [&](const HostTensor& each) { return each.name == compared[i]; });
    double size = rms(t.to_double());
    if (size == 0) size = 1;
    for (Index e = 0; e < t.size(); ++e) {
      if (is_floating(t.dtype))
        t.set(e, t.at(e) + (e % 2 ? -1 : 1) * part * size);
      else
        t.set(e, t.at(e) == 0 ? 1 : 0);
    }
    const CaseResult result = check_fixture(wrong);
    if (right.name == "attention_train_bias_f32" && t.name == "grad.k_proj.bias") continue;  // rounding noise
    EXPECT_EQ(result.status, Status::failed) << t.name;
    EXPECT_NE(result.message.find(t.name), std::string::npos) << t.name << " is not named in: " << result.message;
  }
}

TEST_P(OneOfEachKind, AMissingInputIsAnErrorThatNamesIt) {
  const Fixture right = recorded(GetParam());
  for (const HostTensor& t : right.tensors) {
    if (is_compared(right, t) || t.name.starts_with("grad.")) continue;
    Fixture wrong = right;
    std::erase_if(wrong.tensors, [&](const HostTensor& each) { return each.name == t.name; });
    const CaseResult result = check_fixture(wrong);
    const bool optional = t.name.find("mask") != std::string::npos || t.name.find("seq") != std::string::npos ||
                          t.name.ends_with("input.labels") || t.name == "input.D" || t.name == "input.z" ||
                          t.name.ends_with(".input.z") || t.name.ends_with("dt_bias") ||
                          t.name.ends_with("initial_state") || t.name.ends_with("e_score_correction_bias") ||
                          t.name == "input.beam_idx";
    EXPECT_EQ(result.status, Status::failed) << t.name;  // without an optional input the numbers are others
    if (!optional) {
      EXPECT_NE(result.message.find("/tensors: no tensor \"" + t.name), std::string::npos) << result.message;
    }
  }
}

TEST_P(OneOfEachKind, AWrongShapeIsAnErrorThatNamesIt) {
  const Fixture right = recorded(GetParam());
  for (std::size_t i = 0; i < right.tensors.size(); ++i) {
    if (right.layer == "rng" || right.tensors[i].name == "input.cu_seqlens")
      continue;  // any shape is a draw, or documents
    for (const bool longer : {false, true}) {
      Fixture wrong = right;
      HostTensor& t = wrong.tensors[i];
      if (longer) {
        t.shape.push_back(2);
        t.bytes.resize(2 * t.bytes.size());
      } else {
        if (t.shape.empty() || t.shape.back() < 2) continue;
        --t.shape.back();
        t.bytes.resize(static_cast<std::size_t>(t.size()) * size_of(t.dtype));
      }
      const CaseResult result = check_fixture(wrong);
      EXPECT_EQ(result.status, Status::failed) << t.name;
      EXPECT_NE(result.message.find(": /"), std::string::npos) << t.name << ": " << result.message;
    }
  }
}

TEST_P(OneOfEachKind, UnknownTensorsAndAttributesAreErrors) {
  const Fixture right = recorded(GetParam());
  Fixture wrong = right;
  wrong.tensors.push_back(make_tensor("output.other", Role::out, DType::float32, {2}));
  EXPECT_NE(check_fixture(wrong).message.find("/tensors/output.other"), std::string::npos);
  wrong = right;
  wrong.attributes["surprise"] = 1;
  EXPECT_NE(check_fixture(wrong).message.find("/attributes/surprise: unknown"), std::string::npos);
  for (const auto& [key, value] : right.attributes.items()) {
    if (key == "note") continue;
    wrong = right;
    wrong.attributes[key] = {{"no", "such thing"}};
    EXPECT_EQ(check_fixture(wrong).status, Status::failed) << key;
  }
}

TEST(Golden, AWrongAttributeOrConfigFails) {
  const auto fails = [](const std::string& name, const auto& change, const std::string& word) {
    Fixture wrong = recorded(name);
    change(wrong);
    const CaseResult result = check_fixture(wrong);
    EXPECT_EQ(result.status, Status::failed) << name;
    EXPECT_NE(result.message.find(word), std::string::npos) << result.message;
  };
  fails(
      "router_sigmoid_f32", [](Fixture& f) { f.attributes["route_scale"] = 2.25; }, "output.router.weights");
  fails(
      "router_sigmoid_groups_f32", [](Fixture& f) { f.attributes["n_limited_groups"] = 2; }, "output.router.indices");
  fails(
      "router_sigmoid_f32", [](Fixture& f) { f.attributes["n_expert_groups"] = 3; }, "/attributes/n_expert_groups");
  fails(
      "ssd_scan_limit_noD_f32",
      [](Fixture& f) {
        f.attributes["dt_limit"] = {0.05, 0.25};
      },
      "output.y");
  fails(
      "ssd_scan_plain_f32", [](Fixture& f) { f.attributes["chunk_size"] = 0; }, "/attributes/chunk_size");
  fails(
      "ssd_scan_plain_f32", [](Fixture& f) { f.attributes["dt_softplus"] = false; }, "output.y");
  fails(
      "block_train_mlp_f32", [](Fixture& f) { f.attributes["block_type"] = "attention"; }, "/tensors");
  fails(
      "block_train_mlp_f32", [](Fixture& f) { f.config["layer_norm_epsilon"] = 1e-2; }, "output.hidden_states");
  fails(
      "mamba2_train_dtlimit_f32",
      [](Fixture& f) {
        f.config["time_step_limit"] = {0.0, "inf"};
      },
      "output.hidden_states");
  fails(
      "mamba2_train_base_f32", [](Fixture& f) { f.config["n_groups"] = 3; }, "/config");
  fails(
      "mamba2_train_base_f32", [](Fixture& f) { f.config["ssm_state_size"] = 8; },
      "/tensors/param.in_proj.weight/shape");
  fails(
      "mamba2_train_base_f32", [](Fixture& f) { f.config["torch_dtype"] = "bfloat16"; }, "/config/torch_dtype");
  fails(
      "attention_train_base_f32", [](Fixture& f) { f.config["num_key_value_heads"] = 4; }, "/config");
  fails(
      "moe_train_base_f32", [](Fixture& f) { f.config["routed_scaling_factor"] = 1.0; }, "output.router.weights");
  fails(
      "moe_train_base_f32", [](Fixture& f) { f.tensors[2].set(0, 99); },
      "/tensors/" + recorded("moe_train_base_f32").tensors[2].name);
  fails(
      "model_train_f32", [](Fixture& f) { f.config["num_hidden_layers"] = 3; }, "/config/num_hidden_layers");
  fails(
      "mtp_recipe_loss_f32", [](Fixture& f) { f.attributes["scaling_factor"] = 0.2; }, "output.loss");
  fails(
      "mtp_recipe_loss_f32", [](Fixture& f) { f.attributes["physical_depths"] = 3; }, "/attributes/physical_depths");
  fails(
      "mtp_recipe_loss_f32", [](Fixture& f) { f.attributes["num_label_tokens"] = 20; }, "output.loss");
  fails(
      "init_base_f32", [](Fixture& f) { f.attributes["seed"] = 1235; }, "constructor.model.embed_tokens.weight");
  fails(
      "init_base_f32", [](Fixture& f) { f.attributes["no_reinit"].push_back("model.norm.weight"); },
      "/attributes/no_reinit");
  fails(
      "init_base_f32", [](Fixture& f) { f.config["initializer_range"] = 0.021; }, "init.model.embed_tokens.weight");
  fails(
      "rng_cpu", [](Fixture& f) { f.attributes["seed"] = 78; }, "uniform_f32");
  fails(
      "hf_model_f32", [](Fixture& f) { f.attributes["checkpoint"] = "no_such_folder"; }, "/attributes/checkpoint");
  fails(
      "mlp_train_base_f32", [](Fixture& f) { f.path = "decode"; }, "/path");
  fails(
      "mlp_train_base_f32", [](Fixture& f) { f.layer = "mlq"; }, "/layer");
  fails(
      "mlp_train_base_f32",
      [](Fixture& f) {
        std::erase_if(f.tensors, [](const HostTensor& t) { return t.name == "grad.output.hidden_states"; });
      },
      "grad.output.hidden_states");
}

// ---- expert choices

// A float32 layer whose experts `one` and `other` tie for every token; what it gives with the indices of `choose`.
Fixture tied_layer(Index one, Index other, const std::function<void(reference::Tensor<Index>&)>& choose) {
  Fixture f = recorded("moe_train_base_f32");
  std::erase_if(f.tensors, [](const HostTensor& t) {
    return t.name.starts_with("output.router.") || t.name.starts_with("grad.");
  });
  const auto tensor = [&](std::string_view name) -> HostTensor& { return const_cast<HostTensor&>(f.tensor(name)); };
  HostTensor &gate = tensor("param.gate.weight"), &bias = tensor("buffer.gate.e_score_correction_bias");
  const Index width = gate.shape[1];
  for (Index d = 0; d < width; ++d) gate.set(other * width + d, gate.at(one * width + d));
  bias.set(other, bias.at(one));
  const reference::MoeOptions options =
      reference::moe_options(FixtureReader(f, "input.hidden_states").config(reference::BlockType::moe));
  const auto p = parameters_of<double>(f);
  const auto x = to_tensor<double>(f.tensor("input.hidden_states"));
  reference::MoeSaved<double> saved;
  const reference::Numerics<double> num;
  reference::moe_forward<double>(num, options, p, x, nullptr, nullptr, &saved);
  reference::Tensor<Index> indices = saved.router.indices;
  choose(indices);
  const auto out = reference::moe_forward<double>(num, options, p, x, nullptr, &indices, nullptr);
  HostTensor& output = tensor("output.hidden_states");
  for (Index i = 0; i < out.size(); ++i) output.set(i, out[i]);
  return f;
}

TEST(ExpertChoice, NearATieTheRecordingsExpertsAreTakenAndItIsSaid) {
  int all_changed = 0;
  for (Index other = 1; other < 8; ++other) {
    int changed =
        0;  // tokens of whose choice the pair stands at the border: the router takes the lower index, this file not
    const Fixture f = tied_layer(0, other, [&](reference::Tensor<Index>& indices) {
      for (Index t = 0; t < indices.dim(0); ++t) {
        Index* chosen = &indices(t, 0);
        Index* end = chosen + indices.dim(1);
        Index* one = std::find(chosen, end, 0);
        if (one != end && std::find(chosen, end, other) == end) *one = other, ++changed;
      }
    });
    const CaseResult result = check_fixture(f);
    EXPECT_EQ(result.status, Status::passed) << result.message;
    EXPECT_EQ(result.contract.find("near a tie") != std::string::npos, changed > 0) << result.contract;
    all_changed += changed;
  }
  EXPECT_GT(all_changed, 0);
}

Fixture draft_named(const std::string& name) {
  for (const GoldenDraft& draft : golden_drafts(preset("tiny", ASSAY_GOLDEN), preset("tiny-all", ASSAY_GOLDEN)))
    if (draft.name == name) {
      const GoldenFile golden = draft.record();
      const auto* recipe = std::get_if<Recipe>(&golden);
      return recipe ? rebuild_draft(*recipe).fixture : std::get<Fixture>(golden);
    }
  throw std::invalid_argument("no draft " + name);
}

// Rows `a` and `b` of the first axis.
void swap_rows(HostTensor& t, Index a, Index b) {
  const auto row = static_cast<std::ptrdiff_t>(t.bytes.size()) / t.shape[0];
  std::swap_ranges(t.bytes.begin() + a * row, t.bytes.begin() + (a + 1) * row, t.bytes.begin() + b * row);
}

// All routers of a model are made to tie between experts 1 and 2; of such a pair the reference takes 1. Then the two
// experts change places: a token that was sent to 1 alone now went to 2.
class TiesInAModel : public ::testing::TestWithParam<std::string> {};
TEST_P(TiesInAModel, AreFoundInEveryLayerStepAndDepth) {
  Fixture f = draft_named(GetParam());
  for (HostTensor& t : f.tensors) {
    if (is_expected(t.name)) t.bytes.clear();
    const auto row = static_cast<std::ptrdiff_t>(t.bytes.size()) / std::max<Index>(1, t.shape.empty() ? 1 : t.shape[0]);
    const bool of_gate = t.name.ends_with("gate.weight") || t.name.ends_with("e_score_correction_bias");
    if (of_gate && has_values(t)) std::copy_n(t.bytes.begin() + row, row, t.bytes.begin() + 2 * row);
  }
  record(f);
  EXPECT_EQ(check_fixture(f).contract, "");
  for (HostTensor& t : f.tensors)
    if (t.name.find("mixer.experts.") != std::string::npos || t.name.ends_with("gate.weight")) swap_rows(t, 1, 2);
  const CaseResult result = check_fixture(f);
  EXPECT_EQ(result.status, Status::passed) << result.message;
  EXPECT_NE(result.contract.find("near a tie"), std::string::npos) << result.contract;
}
INSTANTIATE_TEST_SUITE_P(Drafts, TiesInAModel,
                         ::testing::Values("block_train_moe_narrow_bf16", "model_train_tiny_f32", "model_train_tiny_bf16",
                                           "model_prefill_decode_tiny_f32", "model_prefill_decode_tiny_bf16",
                                           "mtp_recipe_loss_tiny_f32", "mtp_recipe_loss_tiny_bf16"),
                         test_name);

TEST(ExpertChoice, ElsewhereTheyAreNot) {
  const Fixture f = tied_layer(1, 2, [&](reference::Tensor<Index>& indices) {
    for (Index e = 0; e < 8;
         ++e)  // the first token's best expert for one that it has not chosen, and not the tied pair's
      if (e != 1 && e != 2 && std::find(&indices(0, 0), &indices(1, 0), e) == &indices(1, 0)) {
        indices(0, 0) = e;
        return;
      }
  });
  const CaseResult result = check_fixture(f);
  EXPECT_EQ(result.status, Status::failed);
  EXPECT_NE(result.message.find("output.hidden_states"), std::string::npos) << result.message;
}

TEST(ExpertChoice, ARecordedChoiceThatTheRouterCouldNotMakeFails) {
  Fixture wrong = recorded("router_sigmoid_f32");
  HostTensor& indices = const_cast<HostTensor&>(wrong.tensor("output.router.indices"));
  for (Index e = 0;; ++e)
    if (e != indices.at(0) && e != indices.at(1) && e != indices.at(2)) {
      indices.set(0, static_cast<double>(e));
      break;
    }
  const CaseResult result = check_fixture(wrong);
  EXPECT_NE(result.message.find("output.router.indices: "), std::string::npos) << result.message;
  indices.set(1, indices.at(0));
  EXPECT_NE(check_fixture(wrong).message.find("/tensors/output.router.indices/data/1: expert"), std::string::npos);
}

// ---- the gates themselves, from both sides

GoldenTensor tensor_of(Index elements, DType dtype, double recorded_error, double matched_error) {
  GoldenTensor t{.name = "output.y", .dtype = dtype, .model = dtype, .shape = {elements}};
  for (Index i = 0; i < elements; ++i) {
    const double sign = i % 2 ? -1 : 1;
    t.oracle.push_back(sign);
    t.recorded.push_back(sign + recorded_error);
    t.matched.push_back(sign + matched_error);
  }
  return t;
}
bool passes(const GoldenTensor& t) { return judge_golden(t).status == Status::passed; }

TEST(JudgeGolden, Float32ByItsRelativeError) {
  EXPECT_TRUE(passes(tensor_of(1000, DType::float32, 4.9e-6, 1e-7)));
  EXPECT_FALSE(passes(tensor_of(1000, DType::float32, 5.1e-6, 1e-7)));
  GoldenTensor t = tensor_of(1000, DType::float32, 9e-6, 1e-7);
  t.tolerance = 1e-5;
  EXPECT_TRUE(passes(t));
  // Terms 2^12 times as large as their sum: the scale is 2^12 2^-10 = 4 times the oracle's.
  t.tolerance = 5e-6;
  t.terms_rms = 0x1p12;
  EXPECT_TRUE(passes(t));
  t = tensor_of(1000, DType::float32, 21e-6, 1e-7);
  t.terms_rms = 0x1p12;
  EXPECT_FALSE(passes(t));
}

TEST(JudgeGolden, Float32MayErrTwiceAsOurOwn) {
  EXPECT_TRUE(passes(tensor_of(1000, DType::float32, 1.9e-5, 1e-5)));
  EXPECT_FALSE(passes(tensor_of(1000, DType::float32, 2.1e-5, 1e-5)));
}

TEST(JudgeGolden, FewElementsMayCancelByEightDeviations) {
  EXPECT_TRUE(passes(tensor_of(255, DType::float32, 7.9e-5, 1e-5)));
  EXPECT_FALSE(passes(tensor_of(255, DType::float32, 8.1e-5, 1e-5)));
  EXPECT_FALSE(passes(tensor_of(4, DType::float32, 5.1e-6, 6e-7)));  // float32 reaches the tolerance: no more than that
}

TEST(JudgeGolden, Bfloat16ByTheRatioOfErrors) {
  EXPECT_TRUE(passes(tensor_of(256, DType::bfloat16, 1.99e-3, 1e-3)));
  EXPECT_FALSE(passes(tensor_of(256, DType::bfloat16, 2.01e-3, 1e-3)));
  EXPECT_TRUE(passes(tensor_of(256, DType::bfloat16, 0.51e-3, 1e-3)));
  EXPECT_FALSE(passes(tensor_of(256, DType::bfloat16, 0.49e-3, 1e-3)));
  EXPECT_TRUE(passes(tensor_of(256, DType::bfloat16, 0, 0)));
  EXPECT_FALSE(passes(tensor_of(256, DType::bfloat16, 1e-9, 0)));
}

TEST(JudgeGolden, FewBfloat16ElementsByEightDeviations) {
  const double rounding = 0x1p-9;  // of a value of 1
  EXPECT_TRUE(passes(tensor_of(255, DType::bfloat16, 7.9 * rounding, 0)));
  EXPECT_FALSE(passes(tensor_of(255, DType::bfloat16, 8.1 * rounding, 0)));
  EXPECT_TRUE(passes(tensor_of(255, DType::bfloat16, 7.9 * 0.1, 0.1)));
  EXPECT_FALSE(passes(tensor_of(255, DType::bfloat16, 8.1 * 0.1, 0.1)));
}

TEST(JudgeGolden, AFloat32TensorOfABfloat16Model) {
  GoldenTensor t = tensor_of(4, DType::float32, 1e-3, 1e-3);  // rounded on the way
  t.model = DType::bfloat16;
  EXPECT_TRUE(passes(t));
  t = tensor_of(4, DType::float32, 1e-5, 1e-7);  // not rounded
  t.model = DType::bfloat16;
  EXPECT_FALSE(passes(t));
}

TEST(JudgeGolden, NoiseByItsLimitAlone) {
  GoldenTensor t = tensor_of(300, DType::float32, 0, 0);
  for (double* values : {t.oracle.data(), t.matched.data()}) std::fill_n(values, 300, 0.0);
  std::fill(t.recorded.begin(), t.recorded.end(), 9e-7);
  t.limit.assign(300, 1e-6);
  EXPECT_TRUE(passes(t));
  EXPECT_TRUE(judge_golden(t).noise_dominated);
  t.recorded[7] = 1.1e-6;
  EXPECT_FALSE(passes(t));
  EXPECT_EQ(judge_golden(t).failing, 1);
}

TEST(JudgeGolden, ExactTensors) {
  GoldenTensor t{.name = "init.weight",
                 .dtype = DType::float32,
                 .shape = {2},
                 .recorded = {1, 2},
                 .oracle = {1, 2},
                 .matched = {1, 2},
                 .exact = true};
  EXPECT_TRUE(passes(t));
  t.recorded[1] = 2 + 2 * ulp(DType::float32, 2);
  EXPECT_FALSE(passes(t));
  t.exact_ulps = 2;
  EXPECT_TRUE(passes(t));
  t.recorded[1] = 2 + 3 * ulp(DType::float32, 2);
  EXPECT_FALSE(passes(t));
}

}  // namespace
}  // namespace assay::harness
