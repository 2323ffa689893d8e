// Whole models: training with either loss and with multi-token prediction; prefill, reorder and decode.
#include "harness/golden/model_golden.h"

#include <fmt/format.h>

#include <algorithm>

#include "reference/init/parameter_specs.h"

namespace assay::harness {
namespace {

using reference::ModelInput;
using reference::NemotronV3Config;
using reference::Numerics;

constexpr const char* kEmbedding = "param.model.embed_tokens.weight";

// Ids [B, S] of a step: "" or "decode.0.".
Shape check_ids(FixtureReader& in, const NemotronV3Config& config, const std::string& at, const Shape& wanted) {
  const Shape shape = in.require(at + "input.input_ids", Dtypes::whole, wanted).shape;
  in.check_range(at + "input.input_ids", config.vocab_size);
  return shape;
}

// The attributes of the recipe's loss, which decide how many MTP layers are stored.
struct RecipeLoss {
  double scaling_factor = 0;
  Index num_label_tokens = 0;
};
std::optional<RecipeLoss> recipe_loss(FixtureReader& in, NemotronV3Config& config) {
  const auto* loss = in.attribute("loss");
  if (!loss) return std::nullopt;
  if (*loss != "recipe")
    in.fail("/attributes/loss",
            loss->dump() + "; want \"recipe\", or no such attribute for the loss of the model itself");
  RecipeLoss result;
  if (config.has_mtp() || in.attribute("scaling_factor")) config.mtp_loss_scaling_factor = in.number("scaling_factor");
  result.num_label_tokens = in.integer("num_label_tokens", 0, INT64_MAX);
  if (in.attribute("physical_depths")) {
    // Stored sublayers: fewer than the depths need if one is repeated.
    const Index all = config.num_nextn_predict_layers * static_cast<Index>(config.mtp_layers_block_type.size());
    const Index stored = in.integer("physical_depths", 0, all);
    config.mtp_use_repeated_layer = stored < all;
    if (stored != config.mtp_sublayers())
      in.fail("/attributes/physical_depths", fmt::format("{}; want {}, or {} of one repeated depth", stored, all,
                                                         config.mtp_layers_block_type.size()));
  }
  return result;
}

// The gradient of mean(h^2).
template <class T>
reference::Tensor<T> mean_square_gradient(const Numerics<T>& num, reference::Tensor<T> h) {
  for (T& value : h.span()) value = num.store(2 * value / static_cast<T>(h.size()));
  return h;
}

// The loss of the model itself, plus mean(h^2) of every MTP depth.
template <class T>
RoutedResults<T> run_in_model_loss(const Numerics<T>& num, const NemotronV3Config& config,
                                   const reference::Quirks& quirks, const reference::Parameters<T>& p,
                                   const ModelInput<T>& input, const reference::Tensor<Index>& labels) {
  reference::BackboneSaved<T> saved;
  const auto h = reference::backbone_forward<T>(num, config, quirks, p, input, &saved);
  auto mtp = reference::mtp_forward<T>(num, config, quirks, p, input, saved.inputs, h);
  RoutedResults<T> results;
  results.tensors["output.logits"] = reference::lm_head_forward(num, p, h);
  const reference::Loss<T> loss = reference::in_model_loss(num, results.tensors["output.logits"], labels);
  results.tensors["output.loss"] = scalar(loss.value);
  std::vector<reference::Tensor<T>> d_mtp;
  for (std::size_t d = 0; d < mtp.hidden_states.size(); ++d) {
    results.tensors[fmt::format("output.mtp.{}.hidden_states", d)] = mtp.hidden_states[d];
    d_mtp.push_back(mean_square_gradient(num, mtp.hidden_states[d]));
  }
  reference::Parameters<T> d_p;
  auto d_h = reference::lm_head_backward(num, p, h, loss.d_logits, d_p);
  if (!d_mtp.empty()) {
    const auto from_mtp = reference::mtp_backward<T>(num, config, quirks, p, input, saved.inputs, mtp, d_mtp, d_p);
    for (Index i = 0; i < d_h.size(); ++i) d_h[i] = num.store(d_h[i] + from_mtp[i]);
  }
  reference::backbone_backward<T>(num, config, quirks, p, input, saved, d_h, d_p);
  add_gradients(results.tensors, std::move(d_p));
  take_routers(results, saved.blocks);
  take_mtp_routers(results, mtp);
  return results;
}

template <class T>
RoutedResults<T> run_recipe_loss(const Numerics<T>& num, const NemotronV3Config& config,
                                 const reference::Quirks& quirks, const reference::Parameters<T>& p,
                                 const ModelInput<T>& input, const reference::Tensor<Index>& labels,
                                 const RecipeLoss& recipe) {
  reference::Parameters<T> d_p;
  auto step = reference::training_step<T>(num, config, quirks, p, input, labels, recipe.num_label_tokens, d_p);
  RoutedResults<T> results;
  results.tensors["output.loss"] = scalar(step.loss.total);
  results.tensors["output.loss.main"] = scalar(step.loss.main);
  results.tensors["output.loss.mtp"] = scalar(step.loss.mtp);
  for (std::size_t d = 0; d < step.loss.depths.size(); ++d) {
    results.tensors[fmt::format("output.loss.mtp.{}", d)] = scalar(step.loss.depths[d]);
    results.tensors[fmt::format("output.mtp.{}.hidden_states", d)] = std::move(step.mtp_hidden_states[d]);
  }
  results.tensors["output.logits"] = std::move(step.logits);
  add_gradients(results.tensors, std::move(d_p));
  // The training step keeps no routers; a second forward pass chooses the same experts.
  reference::BackboneSaved<T> saved;
  const auto h = reference::backbone_forward<T>(num, config, quirks, p, input, &saved);
  auto mtp = reference::mtp_forward<T>(num, config, quirks, p, input, saved.inputs, h);
  take_routers(results, saved.blocks);
  take_mtp_routers(results, mtp);
  return results;
}

reference::RouterOptions router_options(const NemotronV3Config& config) {
  return reference::moe_options(config).router;
}

// Of a depth's block, which a repeated layer runs in every depth.
std::string depth_prefix(Index depth, Index position) { return fmt::format("mtp.depths.{}.{}.", depth, position); }

template <class T>
void take_router(RoutedResults<T>& results, const std::string& name, reference::BlockSaved<T>& block) {
  if (auto* moe = std::get_if<reference::MoeSaved<T>>(&block.mixer))
    results.routers.emplace_back(name, std::move(moe->router));
}

}  // namespace

template <class T>
void give_experts(ModelInput<T>& input, const NemotronV3Config& config, const ExpertChoice& given,
                  const std::string& step) {
  for (Index i = 0; i < config.num_hidden_layers(); ++i)
    if (const auto found = given.find(step + reference::backbone_prefix(i)); found != given.end())
      input.expert_indices[i] = found->second;
  const Index length = static_cast<Index>(config.mtp_layers_block_type.size());
  for (Index j = 0; j < config.num_nextn_predict_layers * length; ++j)
    if (const auto found = given.find(depth_prefix(j / length, j % length)); found != given.end())
      input.mtp_expert_indices[j] = found->second;
}

template <class T>
void take_routers(RoutedResults<T>& results, std::vector<reference::BlockSaved<T>>& blocks, const std::string& step) {
  for (std::size_t i = 0; i < blocks.size(); ++i)
    take_router(results, step + reference::backbone_prefix(static_cast<Index>(i)), blocks[i]);
}

template <class T>
void take_mtp_routers(RoutedResults<T>& results, reference::MtpOutput<T>& mtp) {
  for (std::size_t d = 0; d < mtp.saved.size(); ++d)
    for (std::size_t i = 0; i < mtp.saved[d].blocks.size(); ++i)
      take_router(results, depth_prefix(static_cast<Index>(d), static_cast<Index>(i)), mtp.saved[d].blocks[i]);
}

#define ASSAY_INSTANTIATE(T)                                                                                    \
  template void give_experts(ModelInput<T>&, const NemotronV3Config&, const ExpertChoice&, const std::string&); \
  template void take_routers(RoutedResults<T>&, std::vector<reference::BlockSaved<T>>&, const std::string&);    \
  template void take_mtp_routers(RoutedResults<T>&, reference::MtpOutput<T>&);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

GoldenEvaluation evaluate_model_training(const Fixture& fixture) {
  FixtureReader in(fixture, kEmbedding);
  NemotronV3Config config = in.config();
  const std::optional<RecipeLoss> recipe = recipe_loss(in, config);
  const reference::Quirks quirks = quirks_of(in);
  in.parameters(model_shapes(config));
  const Shape ids = check_ids(in, config, "", {kAny, kAny});
  const bool has_labels = in.allow("input.labels", Dtypes::whole, ids) != nullptr;
  if (has_labels) in.check_range("input.labels", config.vocab_size, reference::kIgnoredTarget);
  if (recipe && !has_labels) (void)fixture.tensor("input.labels");  // throws
  check_attention_mask(in, {ids[0], config.num_attention_heads, ids[1], ids[1]});
  check_documents(in, ids[0], ids[1]);
  in.require("output.logits", Dtypes::model_or_float32, {ids[0], ids[1], config.vocab_size});
  in.allow("output.loss", Dtypes::model_or_float32, {});
  if (recipe)
    for (const char* part : {"output.loss.main", "output.loss.mtp"}) in.allow(part, Dtypes::model_or_float32, {});
  for (Index d = 0; config.has_mtp() && d < config.num_nextn_predict_layers; ++d) {
    if (recipe) in.allow(fmt::format("output.loss.mtp.{}", d), Dtypes::model_or_float32, {});
    in.allow(fmt::format("output.mtp.{}.hidden_states", d), Dtypes::model_or_float32,
             {ids[0], ids[1], config.hidden_size});
  }
  in.finish();

  const auto run = [&]<class T>(const Numerics<T>& num, const ExpertChoice& given) {
    const auto p = parameters_of<T>(fixture);
    ModelInput<T> input = mixer_input_of<T>(fixture);
    input.input_ids = to_tensor<Index>(fixture.tensor("input.input_ids"));
    give_experts(input, config, given);
    const auto labels = has_labels ? to_tensor<Index>(fixture.tensor("input.labels")) : input.input_ids;
    return recipe ? run_recipe_loss<T>(num, config, quirks, p, input, labels, *recipe)
                  : run_in_model_loss<T>(num, config, quirks, p, input, labels);
  };
  return evaluate_with_inferred_experts(in, kModelTolerance, routed_layer(in, router_options(config), true, run));
}

GoldenEvaluation evaluate_model_cached(const Fixture& fixture) {
  FixtureReader in(fixture, kEmbedding);
  NemotronV3Config config = in.config();
  config.num_nextn_predict_layers = 0;  // never on the cached path
  const reference::Quirks quirks = quirks_of(in);
  in.parameters(model_shapes(config));
  const Index steps = in.integer("decode_steps", 0, static_cast<Index>(fixture.tensors.size()));
  const Shape prompt = check_ids(in, config, "", {kAny, kAny});
  Index batch = prompt[0];
  check_attention_mask(in, {batch, config.num_attention_heads, prompt[1], prompt[1]});
  const HostTensor* beams = in.allow("input.beam_idx", Dtypes::whole, {kAny});
  if (beams) in.check_range("input.beam_idx", batch);
  for (Index step = -1; step < steps; ++step) {
    const std::string at = step < 0 ? "" : fmt::format("decode.{}.", step);
    if (step == 0 && beams) batch = beams->size();
    const Shape ids = step < 0 ? prompt : check_ids(in, config, at, {batch, kAny});
    in.require(at + "output.logits", Dtypes::model_or_float32, {ids[0], ids[1], config.vocab_size});
  }
  in.finish();

  const auto run = [&]<class T>(const Numerics<T>& num, const ExpertChoice& given) {
    const auto p = parameters_of<T>(fixture);
    ModelInput<T> input = mixer_input_of<T>(fixture);
    auto cache = reference::make_cache<T>(config, prompt[0]);
    RoutedResults<T> results;
    for (Index step = -1; step < steps; ++step) {
      const std::string at = step < 0 ? "" : fmt::format("decode.{}.", step);
      if (step == 0 && beams) {
        const auto rows = to_tensor<Index>(*beams);
        reference::reorder(cache, std::vector<Index>(rows.span().begin(), rows.span().end()));
      }
      if (step == 0) input = {};
      input.input_ids = to_tensor<Index>(fixture.tensor(at + "input.input_ids"));
      input.expert_indices.clear();
      give_experts(input, config, given, at);
      std::vector<reference::BlockSaved<T>> blocks;
      results.tensors[at + "output.logits"] = reference::lm_head_forward(
          num, p, reference::backbone_step<T>(num, config, quirks, p, input, cache, &blocks));
      take_routers(results, blocks, at);
    }
    return results;
  };
  return evaluate_with_inferred_experts(in, kModelTolerance, routed_layer(in, router_options(config), true, run));
}

GoldenEvaluation evaluate_model_fixture(const Fixture& fixture) {
  if (fixture.path == "init") return evaluate_model_init(fixture);
  if (fixture.path == "prefill_decode") return evaluate_model_cached(fixture);
  if (fixture.path == "train")
    return origin_of(fixture) == Origin::hugging_face ? evaluate_hugging_face_model(fixture)
                                                      : evaluate_model_training(fixture);
  throw FixtureError(fmt::format("{}: /path: \"{}\"; a fixture of model has path train, prefill_decode or init",
                                 fixture.file.string(), fixture.path));
}

}  // namespace assay::harness
