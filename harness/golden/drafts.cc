#include "harness/golden/drafts.h"

#include <fmt/format.h>

#include <cmath>
#include <tuple>
#include <utility>

#include "harness/core/explain.h"
#include "harness/core/random.h"
#include "harness/golden/draft.h"
#include "harness/io/model_config.h"
#include "reference/init/initialize.h"
#include "reference/init/mt19937.h"

namespace assay::harness {
namespace {

using reference::BlockType;
using Config = reference::NemotronV3Config;

constexpr Index kBatch = 2, kTokens = 19;  // more than two chunks of the rich model, and no multiple of one

// Inputs of a fixture, its expected tensors without values.
struct FixtureDraft {
  std::string name;
  DType model;
  std::function<Fixture()> unrecorded;
};

// Both dtypes of one draft.
class Drafts {
 public:
  template <class Fill>
  void add(const std::string& name, const std::string& layer, const std::string& path, const Config& config,
           Fill fill) {
    for (const DType model : {DType::float32, DType::bfloat16}) add_one(name, layer, path, config, model, fill);
  }
  template <class Fill>
  void add_one(const std::string& name, const std::string& layer, const std::string& path, const Config& config,
               DType model, Fill fill) {
    result_.push_back({name, model, [=] {
                         Draft draft(name, layer, path, config, model);
                         fill(draft);
                         return std::move(draft).unrecorded();
                       }});
  }
  std::vector<FixtureDraft> take() { return std::move(result_); }

 private:
  std::vector<FixtureDraft> result_;
};

// input, output and their gradients, and those of the parameters there are.
void hidden_states(Draft& d, const Shape& shape) {
  d.normal("input.hidden_states", shape).expect("output.hidden_states", shape);
}
void gradients(Draft& d, const Shape& shape) {
  d.normal("grad.output.hidden_states", shape)
      .expect("grad.input.hidden_states", shape)
      .expect_gradients_of_parameters();
}

// The second row begins with padding, the first ends with it.
void padding_mask(Draft& d, const std::string& name, bool one_is_padding) {
  std::vector<double> mask(kBatch * kTokens, one_is_padding ? 0 : 1);
  for (const Index i : {kTokens - 2, kTokens - 1, kTokens, kTokens + 1, kTokens + 2})
    mask[static_cast<std::size_t>(i)] = one_is_padding;
  d.values(name, one_is_padding ? DType::boolean : DType::int64, {kBatch, kTokens}, mask);
}
void documents(Draft& d) { d.values("input.cu_seqlens", DType::int32, {5}, {0, 4, 5, 12, kTokens}); }

void add_norms(Drafts& drafts, const Config& c) {
  drafts.add("rms_norm_train", "rms_norm", "train", c, [](Draft& d) {
    const Index width = d.config().hidden_size;
    const Shape shape = {kBatch, kTokens, width};
    d.attribute("hidden_size", width).attribute("eps", d.config().layer_norm_epsilon);
    d.normal("input.hidden_states", shape, 2)
        .normal("param.weight", {width}, 0.2, 1)
        .normal("grad.output.hidden_states", shape);
    d.expect("output.hidden_states", shape).expect("grad.input.hidden_states", shape).expect("grad.weight", {width});
  });
  for (const bool gate : {true, false})
    drafts.add(gate ? "gated_rms_norm_train" : "gated_rms_norm_train_no_gate", "mamba_rmsnorm_gated", "train", c,
               [gate](Draft& d) {
                 const Index width = d.config().mamba_intermediate_size();
                 const Shape shape = {kBatch, kTokens, width};
                 d.attribute("hidden_size", width).attribute("group_size", d.config().mamba_norm_group_size());
                 d.attribute("eps", d.config().layer_norm_epsilon);
                 d.normal("input.hidden_states", shape, 2)
                     .normal("param.weight", {width}, 0.2, 1)
                     .normal("grad.output.hidden_states", shape);
                 if (gate) d.normal("input.gate", shape);
                 d.expect("output.hidden_states", shape)
                     .expect("grad.input.hidden_states", shape)
                     .expect("grad.weight", {width});
                 if (gate) d.expect("grad.input.gate", shape);
               });
}

// A layer of the model with its parameters.
template <class More>
void add_layer(Drafts& drafts, const std::string& name, const std::string& layer, BlockType type, const Config& c,
               bool packed, More more) {
  drafts.add(name, layer, "train", c, [=](Draft& d) {
    const Shape shape = {packed ? 1 : kBatch, kTokens, c.hidden_size};
    d.parameters(mixer_shapes(c, type));
    hidden_states(d, shape);
    more(d);
    gradients(d, shape);
  });
}
void nothing_more(Draft&) {}

void add_attention(Drafts& drafts, const std::string& of, const Config& c) {
  add_layer(drafts, "attention_train" + of, "attention", BlockType::attention, c, false, nothing_more);
  add_layer(drafts, "attention_train_padding" + of, "attention", BlockType::attention, c, false,
            [](Draft& d) { padding_mask(d, "input.attention_mask", false); });
  add_layer(drafts, "attention_train_packed" + of, "attention", BlockType::attention, c, true, documents);
  add_layer(drafts, "attention_train_mask" + of, "attention", BlockType::attention, c, false, [](Draft& d) {
    // Not causal: every query sees the three tokens around it, and one before all of them.
    std::vector<double> mask;
    for (Index i = 0; i < kTokens; ++i)
      for (Index j = 0; j < kTokens; ++j) mask.push_back(j == 0 || (j >= i - 1 && j <= i + 1));
    d.values("input.attention_mask", DType::boolean, {1, 1, kTokens, kTokens}, mask);
  });
  drafts.add("attention_prefill_decode" + of, "attention", "prefill_decode", c, [=](Draft& d) {
    d.attribute("decode_steps", 3).parameters(mixer_shapes(c, BlockType::attention));
    for (Index step = -1, keys = 0; step < 3; ++step) {
      const std::string at = step < 0 ? "" : fmt::format("decode.{}.", step);
      const Index tokens = step < 0 ? kTokens : 1;
      const Shape shape = {kBatch, tokens, c.hidden_size},
                  cache = {kBatch, c.num_key_value_heads, keys += tokens, c.head_dim};
      d.normal(at + "input.hidden_states", shape).expect(at + "output.hidden_states", shape);
      d.expect(at + "output.key_cache", cache).expect(at + "output.value_cache", cache);
    }
  });
}

void add_mamba(Drafts& drafts, const std::string& of, const Config& c) {
  add_layer(drafts, "mamba2_mixer_train" + of, "mamba2_mixer", BlockType::mamba, c, false, nothing_more);
  add_layer(drafts, "mamba2_mixer_train_padding" + of, "mamba2_mixer", BlockType::mamba, c, false,
            [](Draft& d) { padding_mask(d, "input.attention_mask", false); });
  add_layer(drafts, "mamba2_mixer_train_packed" + of, "mamba2_mixer", BlockType::mamba, c, true, documents);
  drafts.add("mamba2_mixer_prefill_decode" + of, "mamba2_mixer", "prefill_decode", c, [=](Draft& d) {
    d.attribute("decode_steps", 3).parameters(mixer_shapes(c, BlockType::mamba));
    for (Index step = -1; step < 3; ++step) {
      const std::string at = step < 0 ? "" : fmt::format("decode.{}.", step);
      const Shape shape = {kBatch, step < 0 ? kTokens : 1, c.hidden_size};
      d.normal(at + "input.hidden_states", shape).expect(at + "output.hidden_states", shape);
      d.expect(at + "output.conv_state", {kBatch, c.conv_dim(), c.conv_kernel});
      d.expect(at + "output.ssm_state", {kBatch, c.mamba_num_heads, c.mamba_head_dim, c.ssm_state_size});
    }
  });
}

struct ScanDraft {
  std::string name;
  bool states = false, packed = false, gate = false, limit = false;
};
void add_scan(Drafts& drafts, const Config& c) {
  const Index heads = c.mamba_num_heads, width = c.mamba_head_dim, groups = c.n_groups, N = c.ssm_state_size;
  for (const ScanDraft& s : {ScanDraft{"ssd_scan_train"}, ScanDraft{"ssd_scan_train_states", true},
                             ScanDraft{"ssd_scan_train_packed", false, true},
                             ScanDraft{"ssd_scan_train_gated_limited", false, false, true, true}})
    drafts.add(s.name, "ssd_scan", "train", c, [=](Draft& d) {
      const Index batch = s.packed ? 1 : kBatch;
      const Shape x = {batch, kTokens, heads, width}, B = {batch, kTokens, groups, N}, state = {batch, heads, width, N};
      d.attribute("chunk_size", c.chunk_size).attribute("dt_softplus", true);
      d.attribute("dt_limit", s.limit ? nlohmann::ordered_json{0.1, 0.6} : nlohmann::ordered_json{0.0, "inf"});
      d.normal("input.x", x).normal("input.dt", {batch, kTokens, heads}).normal_float32("input.A", {heads}, 0.15, -1);
      d.normal("input.B", B, 0.7)
          .normal("input.C", B, 0.7)
          .normal_float32("input.D", {heads})
          .normal_float32("input.dt_bias", {heads}, 0.3, -0.5);
      if (s.gate) d.normal("input.z", x);
      if (s.states) d.normal_float32("input.initial_state", state);
      if (s.packed) {
        std::vector<double> seq_idx;
        for (Index t = 0; t < kTokens; ++t) seq_idx.push_back((t >= 4) + (t >= 5) + (t >= 12));
        d.values("input.seq_idx", DType::int32, {1, kTokens}, seq_idx);
        documents(d);
        d.expect("output.varlen_states", {4, heads, width, N});
      }
      d.normal("grad.output.y", x).expect("output.y", x);
      if (s.states)
        d.normal_float32("grad.output.final_state", state).expect("output.final_state", DType::float32, state);
      d.expect("grad.input.x", x)
          .expect("grad.input.dt", {batch, kTokens, heads})
          .expect("grad.input.A", DType::float32, {heads});
      d.expect("grad.input.B", B).expect("grad.input.C", B).expect("grad.input.D", DType::float32, {heads});
      d.expect("grad.input.dt_bias", DType::float32, {heads});
      if (s.gate) d.expect("grad.input.z", x);
      if (s.states) d.expect("grad.input.initial_state", DType::float32, state);
    });
  for (const bool gate : {false, true})
    for (const DType kept : {DType::float32, DType::bfloat16})
      drafts.add(fmt::format("ssm_state_update{}_state_{}", gate ? "_gated" : "", short_name(kept)), "ssm_state_update",
                 "decode", c, [=](Draft& d) {
                   const Shape state = {kBatch, heads, width, N}, x = {kBatch, heads, width}, B = {kBatch, groups, N};
                   d.attribute("steps", 3).attribute("dt_softplus", true);
                   std::vector<double> start;  // in the dtype that the state is kept in
                   const Random random(1, "ssm_state_update/input.state");
                   for (Index i = 0; i < element_count(state); ++i)
                     start.push_back(round_to(kept, random.normal(static_cast<std::uint64_t>(i))));
                   d.values("input.state", kept, state, start)
                       .normal_float32("input.A", {heads}, 0.15, -1)
                       .normal_float32("input.D", {heads});
                   d.normal_float32("input.dt_bias", {heads}, 0.3, -0.5);
                   for (int step = 0; step < 3; ++step) {
                     const std::string at = fmt::format("step.{}.", step);
                     d.normal(at + "input.x", x)
                         .normal(at + "input.dt", {kBatch, heads})
                         .normal(at + "input.B", B, 0.7)
                         .normal(at + "input.C", B, 0.7);
                     if (gate) d.normal(at + "input.z", x);
                     d.expect(at + "output.y", x).expect(at + "output.state", kept, state);
                   }
                 });
}

struct RouterDraft {
  const char* name;
  const char* score_function;
  bool softmax_before_topk = false, gate_in_float32 = true;
  int groups = 1;
  double aux_loss = 0, update = 0;
};
void add_routers(Drafts& drafts, const Config& c) {
  const Index experts = 8, k = 3;
  for (const RouterDraft& r :
       {RouterDraft{"sigmoid", "sigmoid"}, RouterDraft{"sigmoid_groups", "sigmoid", false, true, 2},
        RouterDraft{"sigmoid_model_precision", "sigmoid", false, false},
        RouterDraft{"sigmoid_aux_update", "sigmoid", false, true, 1, 0.01, 0.001},
        RouterDraft{"sigmoid_with_bias", "sigmoid_with_bias", false, true, 2}, RouterDraft{"softmax", "softmax"},
        RouterDraft{"softmax_before_topk", "softmax", true},
        RouterDraft{"softmax_with_bias", "softmax_with_bias", false, true, 2},
        RouterDraft{"sqrtsoftplus", "sqrtsoftplus"}})
    drafts.add(std::string("router_") + r.name, "router", "train", c, [=](Draft& d) {
      const Shape x = {2 * kTokens, c.hidden_size}, chosen = {2 * kTokens, k};
      d.attribute("gate_precision", r.gate_in_float32 ? nlohmann::ordered_json("float32") : nlohmann::ordered_json());
      d.attribute("n_routed_experts", experts).attribute("n_activated_experts", k);
      d.attribute("n_expert_groups", r.groups)
          .attribute("n_limited_groups", 1)
          .attribute("score_func", r.score_function);
      d.attribute("softmax_before_topk", r.softmax_before_topk)
          .attribute("route_scale", 2.5)
          .attribute("norm_topk_prob", true);
      d.attribute("aux_loss_coeff", r.aux_loss).attribute("gate_bias_update_factor", r.update);
      std::vector<double> mask(2 * kTokens, 1);
      mask[3] = mask[kTokens] = 0;
      d.normal("input.hidden_states", x).values("input.token_mask", DType::boolean, {2 * kTokens}, mask);
      d.normal("param.weight", {experts, c.hidden_size}, 0.2)
          .normal_float32("buffer.e_score_correction_bias", {experts}, 0.1);
      d.normal("grad.output.router.weights", chosen);
      d.expect("output.router.weights", chosen)
          .expect("output.router.indices", DType::int64, chosen)
          .expect("output.expert_load", DType::int64, {experts});
      if (r.aux_loss > 0) d.expect("output.aux_loss", DType::float32, {});
      if (r.update > 0) d.expect("output.e_score_correction_bias", DType::float32, {experts});
      d.expect("grad.input.hidden_states", x).expect("grad.weight", {experts, c.hidden_size});
    });
}

void add_moe(Drafts& drafts, const std::string& of, const Config& c) {
  const auto experts = [=](Draft& d) {
    const Shape chosen = {kBatch * kTokens, c.num_experts_per_tok};
    d.expect("output.router.weights", chosen).expect("output.router.indices", DType::int64, chosen);
  };
  add_layer(drafts, "moe_train" + of, "moe", BlockType::moe, c, false, experts);
  add_layer(drafts, "moe_train_padding" + of, "moe", BlockType::moe, c, false, [=](Draft& d) {
    padding_mask(d, "input.padding_mask", true);
    experts(d);
  });
}

void add_blocks(Drafts& drafts, const std::string& of, const Config& c) {
  for (const BlockType type : {BlockType::mamba, BlockType::attention, BlockType::mlp, BlockType::moe})
    drafts.add(fmt::format("block_train_{}{}", name(type), of), "block", "train", c, [=](Draft& d) {
      const Shape shape = {kBatch, kTokens, c.hidden_size};
      const DType stream = c.residual_in_fp32 ? DType::float32 : d.model();
      d.attribute("block_type", name(type)).parameters(mixer_shapes(c, type, ""));
      d.normal("input.hidden_states", shape).expect("output.hidden_states", stream, shape);
      gradients(d, shape);
    });
}

void add_models(Drafts& drafts, const std::string& of, const Config& with_mtp) {
  Config plain = with_mtp;
  plain.num_nextn_predict_layers = 0;
  const Shape ids = {kBatch, kTokens}, logits = {kBatch, kTokens, plain.vocab_size};
  drafts.add("model_train" + of, "model", "train", plain, [=](Draft& d) {
    d.parameters(model_shapes(plain))
        .ids("input.input_ids", ids, plain.vocab_size)
        .ids("input.labels", ids, plain.vocab_size);
    d.expect("output.logits", logits).expect("output.loss", DType::float32, {}).expect_gradients_of_parameters();
  });
  drafts.add("model_train_padding" + of, "model", "train", plain, [=](Draft& d) {
    d.parameters(model_shapes(plain))
        .ids("input.input_ids", ids, plain.vocab_size)
        .ids("input.labels", ids, plain.vocab_size);
    padding_mask(d, "input.attention_mask", false);
    d.expect("output.logits", logits).expect("output.loss", DType::float32, {}).expect_gradients_of_parameters();
  });
  drafts.add("model_train_packed" + of, "model", "train", plain, [=](Draft& d) {
    d.parameters(model_shapes(plain))
        .ids("input.input_ids", {1, kTokens}, plain.vocab_size)
        .ids("input.labels", {1, kTokens}, plain.vocab_size);
    documents(d);
    d.expect("output.logits", {1, kTokens, plain.vocab_size})
        .expect("output.loss", DType::float32, {})
        .expect_gradients_of_parameters();
  });
  for (const bool reorder : {false, true})
    drafts.add(
        (reorder ? "model_prefill_reorder_decode" : "model_prefill_decode") + of, "model", "prefill_decode", plain,
        [=](Draft& d) {
          d.attribute("decode_steps", 3).parameters(model_shapes(plain)).ids("input.input_ids", ids, plain.vocab_size);
          if (reorder) d.values("input.beam_idx", DType::int64, {3}, {1, 0, 1});
          d.expect("output.logits", logits);
          const Index rows = reorder ? 3 : kBatch;
          for (int step = 0; step < 3; ++step) {
            d.ids(fmt::format("decode.{}.input.input_ids", step), {rows, 1}, plain.vocab_size);
            d.expect(fmt::format("decode.{}.output.logits", step), {rows, 1, plain.vocab_size});
          }
        });
  for (const bool repeated : {false, true}) {
    Config c = with_mtp;
    if (repeated && c.num_nextn_predict_layers < 2) continue;
    c.mtp_use_repeated_layer = repeated;
    drafts.add((repeated ? "mtp_recipe_loss_repeated" : "mtp_recipe_loss") + of, "model", "train", c, [=](Draft& d) {
      d.attribute("loss", "recipe")
          .attribute("scaling_factor", 0.1)
          .attribute("num_label_tokens", kBatch * kTokens - 1);
      d.attribute("physical_depths", c.mtp_sublayers());
      d.parameters(model_shapes(c)).ids("input.input_ids", ids, c.vocab_size).ids("input.labels", ids, c.vocab_size);
      d.expect("output.logits", logits);
      for (const char* part : {"output.loss", "output.loss.main", "output.loss.mtp"})
        d.expect(part, DType::float32, {});
      for (Index depth = 0; depth < c.num_nextn_predict_layers; ++depth) {
        d.expect(fmt::format("output.loss.mtp.{}", depth), DType::float32, {});
        d.expect(fmt::format("output.mtp.{}.hidden_states", depth), {kBatch, kTokens, c.hidden_size});
      }
      d.expect_gradients_of_parameters();
    });
  }
}

void add_initialisation(Drafts& drafts, const std::string& of, const Config& c) {
  for (const bool rescale : {true, false}) {
    Config config = c;
    config.rescale_prenorm_residual = rescale;
    drafts.add((rescale ? "init" : "init_no_rescale") + of, "model", "init", config, [](Draft& d) {
      constexpr std::uint64_t kGeneratorSeed = 4321;
      d.attribute("seed", kGeneratorSeed).attribute("generator", "cpu");
      reference::CpuGenerator generator(kGeneratorSeed);
      reference::ModelTensors tensors = reference::construct(d.config(), generator);
      const auto expect = [&](const std::string& stage) {
        for (const auto& [name, t] : tensors) {
          if (t.values.size() > 0 && std::isnan(t.values[0])) continue;  // uninitialised upstream
          const bool is_bfloat16 = t.dtype == reference::ModelDtype::bfloat16;
          d.expect(stage + name, is_bfloat16 ? DType::bfloat16 : DType::float32,
                   Shape(t.values.shape().begin(), t.values.shape().end()));
        }
      };
      expect("constructor.");
      reference::initialize_weights(tensors, d.config(), generator);
      expect("init.");
      nlohmann::ordered_json no_weight_decay = nlohmann::ordered_json::array(), no_reinit = no_weight_decay;
      for (const auto& [name, t] : tensors) {
        if (t.flags.no_weight_decay) no_weight_decay.push_back(name);
        if (t.flags.no_reinit) no_reinit.push_back(name);
      }
      d.attribute("no_weight_decay", no_weight_decay).attribute("no_reinit", no_reinit);
    });
  }
}

void add_generator(Drafts& drafts, const Config& c) {
  drafts.add_one("rng_cpu", "rng", "init", c, DType::float32, [](Draft& d) {
    d.attribute("seed", 99).attribute("generator", "cpu").attribute("order", "as listed");
    nlohmann::ordered_json arguments;
    // Below, at and above 16 elements the normal rule changes; a kept one outlives what comes between.
    for (const auto& [name, dtype, size] : {std::tuple{"normal_f32_5", DType::float32, 5},
                                            {"uniform_f32_40", DType::float32, 40},
                                            {"normal_f32_16", DType::float32, 16},
                                            {"normal_f32_37", DType::float32, 37},
                                            {"normal_f32_1", DType::float32, 1},
                                            {"uniform_bf16_21", DType::bfloat16, 21},
                                            {"normal_bf16_37", DType::bfloat16, 37},
                                            {"uniform_f64_9", DType::float64, 9},
                                            {"normal_f64_20", DType::float64, 20}}) {
      arguments[name] = std::string(name).starts_with("uniform") ? nlohmann::ordered_json{-0.5, 0.25}
                                                                 : nlohmann::ordered_json{0.0, 0.02};
      d.expect(name, dtype, {size});
    }
    d.attribute("arguments", arguments);
  });
}

// The features of `c` at the width of a fixture that is kept whole.
Config narrow(Config c) {
  c.hidden_size = 16;
  return c;
}

std::vector<FixtureDraft> fixture_drafts(const Config& plain, const Config& rich) {
  Drafts drafts;
  add_norms(drafts, rich);
  add_scan(drafts, rich);
  add_routers(drafts, plain);
  for (const auto& [of, config] : {std::pair<std::string, Config>{"_narrow", narrow(plain)}, {"_tiny_all", rich}}) {
    add_layer(drafts, "mlp_train" + of, "mlp", BlockType::mlp, config, false, nothing_more);
    add_attention(drafts, of, config);
    add_moe(drafts, of, config);
    add_mamba(drafts, of, config);
    add_blocks(drafts, of, config);
  }
  for (const auto& [of, config] : {std::pair<std::string, Config>{"_tiny", plain}, {"_tiny_all", rich}}) {
    add_models(drafts, of, config);
    add_initialisation(drafts, of, config);
  }
  add_generator(drafts, plain);
  return drafts.take();
}

GoldenFile recorded(const FixtureDraft& draft) {
  Fixture fixture = draft.unrecorded();
  const std::vector<GoldenTensor> judged = record(fixture);
  for (const GoldenTensor& g : judged)
    if (const TensorResult result = judge_golden(g); result.status == Status::failed)
      throw std::logic_error(fmt::format("{}: does not pass its own check: {}", fixture.name, explain(result)));
  if (to_json(fixture).size() <= kWholeBytes) return fixture;
  return recipe_of(fixture, {.family = kDraftFamily, .path = draft.name, .sizes = {}, .dtype = draft.model,
                             .fill = "model", .seed = 1});
}

}  // namespace

RebuiltDraft rebuild_draft(const Recipe& recipe) {
  const auto fail = [&](const std::string& text) -> void {
    throw FixtureError(fmt::format("{}: {}", recipe.head.file.string(), text));
  };
  Config config;
  try {
    config = parse_model_config(recipe.head.config, recipe.head.file, "/config");
  } catch (const ConfigError& error) {
    throw FixtureError(error.what());
  }
  const Case c = parse_case(recipe.case_line);
  for (const FixtureDraft& draft : fixture_drafts(config, config)) {
    if (draft.name != c.path || draft.model != c.dtype) continue;
    RebuiltDraft result{draft.unrecorded(), {}};
    const Fixture& own = result.fixture;
    if (own.layer != recipe.head.layer) fail(fmt::format("/layer: the case is of layer {}", own.layer));
    if (own.path != recipe.head.path) fail(fmt::format("/path: the case is of path {}", own.path));
    if (own.config != recipe.head.config) fail("/config: not that of the case");
    if (own.attributes != recipe.head.attributes) fail("/attributes: not those of the case");
    result.judged = record(result.fixture);
    result.fixture.file = recipe.head.file;
    return result;
  }
  throw FixtureError(
      fmt::format("{}: /recipe/case: no draft {} in {}", recipe.head.file.string(), c.path, name(c.dtype)));
}

std::vector<GoldenDraft> golden_drafts(const Config& plain, const Config& rich) {
  std::vector<GoldenDraft> result;
  for (const FixtureDraft& draft : fixture_drafts(plain, rich))
    result.push_back({fmt::format("{}_{}", draft.name, short_name(draft.model)), [=] { return recorded(draft); }});
  for (const Case& c : recipe_cases()) {
    const std::string name = fmt::format("{}_{}_large_{}", c.family, c.path, short_name(c.dtype));
    result.push_back({name, [=] { return record_recipe(name, c); }});
  }
  return result;
}

}  // namespace assay::harness
