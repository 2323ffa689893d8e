// A checkpoint as transformers writes it, and what transformers computed with it: loss, gradients under the names and
// in the layout of its modules, and greedy generation.
#include <fmt/format.h>

#include <algorithm>

#include "harness/core/expectation.h"
#include "harness/golden/model_golden.h"
#include "harness/io/checkpoint.h"

namespace assay::harness {
namespace {

using reference::ModelInput;
using reference::NemotronV3Config;
using reference::Numerics;

bool is_transposed(std::string_view parameter) {
  return parameter.ends_with("experts.gate_and_up_projs") || parameter.ends_with("experts.down_projs");
}

// The parameter's name among transformers' modules.
std::string transformers_name(std::string name) {
  const std::pair<const char*, const char*> kSpellings[] = {{"model.embed_tokens.", "model.embeddings."},
                                                            {"model.norm.", "model.norm_f."},
                                                            {"_fp32_params.", ""},
                                                            {"experts.gate_and_up_projs", "experts.up_proj"},
                                                            {"experts.down_projs", "experts.down_proj"}};
  for (const auto& [ours, theirs] : kSpellings)
    if (const auto at = name.find(ours); at != std::string::npos)
      name.replace(at, std::string_view(ours).size(), theirs);
  return name;
}

template <class T>
reference::Tensor<T> transposed(const reference::Tensor<T>& t) {
  reference::Tensor<T> result({t.dim(0), t.dim(2), t.dim(1)});
  for (Index e = 0; e < t.dim(0); ++e)
    for (Index i = 0; i < t.dim(1); ++i)
      for (Index j = 0; j < t.dim(2); ++j) result(e, j, i) = t(e, i, j);
  return result;
}

reference::ModelTensors read_tensors(FixtureReader& in, const NemotronV3Config& config) {
  const auto* folder = in.attribute("checkpoint");
  const std::string pointer = "/attributes/checkpoint";
  if (!folder || !folder->is_string())
    in.fail(pointer, "missing or no string; want the checkpoint's folder, beside the fixture");
  const std::filesystem::path path = folder->get<std::string>();
  if (path.is_absolute()) in.fail(pointer, folder->dump() + "; want a folder beside the fixture");
  try {
    return read_checkpoint(SafetensorsModel(in.fixture().file.parent_path() / path), config);
  } catch (const std::runtime_error& error) {
    in.fail(pointer, error.what());
  }
}

// The recorded tokens are fed back, so that one near tie does not change every token after it.
template <class T>
reference::Tensor<T> teacher_forced_logits(const Numerics<T>& num, const NemotronV3Config& config,
                                           const reference::Quirks& quirks, const reference::Parameters<T>& p,
                                           const reference::Tensor<Index>& tokens, Index prompt,
                                           const ExpertChoice& given, RoutedResults<T>& results) {
  const Index batch = tokens.dim(0), total = tokens.dim(1);
  auto cache = reference::make_cache<T>(config, batch);
  reference::Tensor<T> logits({batch, total - prompt, config.vocab_size});
  for (Index t = prompt; t < total; ++t) {
    const Index begin = t == prompt ? 0 : t - 1;
    ModelInput<T> input;
    input.input_ids = reference::Tensor<Index>({batch, t - begin});
    for (Index b = 0; b < batch; ++b) std::copy_n(&tokens(b, begin), t - begin, &input.input_ids(b, 0));
    const std::string step = fmt::format("generate.{}.", t - prompt);
    give_experts(input, config, given, step);
    std::vector<reference::BlockSaved<T>> blocks;
    const auto next = reference::lm_head_forward(
        num, p, reference::backbone_step<T>(num, config, quirks, p, input, cache, &blocks), 1);
    take_routers(results, blocks, step);
    for (Index b = 0; b < batch; ++b) std::copy_n(&next(b, 0, 0), config.vocab_size, &logits(b, t - prompt, 0));
  }
  return logits;
}

// What greedy decoding should have chosen: the recorded token where its logit is the largest one within 8 standard
// deviations of what the model's arithmetic does to logits, else the oracle's.
void validate_tokens(std::vector<GoldenTensor>& tensors, Index prompt) {
  const auto named = [&](std::string_view name) {
    return std::find_if(tensors.begin(), tensors.end(), [&](const GoldenTensor& t) { return t.name == name; });
  };
  const auto logits = named("generate.logits"), tokens = named("generate.output_ids");
  if (logits == tensors.end() || tokens == tensors.end()) return;
  const double margin = kSigmas * rms_difference(logits->matched, logits->oracle);
  const Index fresh = logits->shape[1], vocab = logits->shape[2], length = tokens->shape[1];
  for (Index row = 0; row < logits->shape[0] * fresh; ++row) {
    const auto first = logits->oracle.begin() + row * vocab, best = std::max_element(first, first + vocab);
    double& token = tokens->oracle[row / fresh * length + prompt + row % fresh];
    if (first[static_cast<Index>(token)] < *best - margin) token = static_cast<double>(best - first);
  }
}

}  // namespace

GoldenEvaluation evaluate_hugging_face_model(const Fixture& fixture) {
  FixtureReader in(fixture);
  const NemotronV3Config config = in.config();
  const reference::Quirks quirks = quirks_of(in);
  const reference::ModelTensors tensors = read_tensors(in, config);
  const Shape ids = in.require("input.input_ids", Dtypes::whole, {kAny, kAny}).shape;
  in.check_range("input.input_ids", config.vocab_size);
  in.require("input.labels", Dtypes::whole, ids);
  in.check_range("input.labels", config.vocab_size, reference::kIgnoredTarget);
  check_attention_mask(in, {ids[0], config.num_attention_heads, ids[1], ids[1]});
  in.require("output.logits", Dtypes::model_or_float32, {ids[0], ids[1], config.vocab_size});
  in.allow("output.loss", Dtypes::model_or_float32, {});
  for (const FixtureReader::NamedShape& p : model_shapes(config)) {
    const bool turn = is_transposed(p.name);
    if (!p.is_buffer)
      in.allow("grad." + transformers_name(p.name), Dtypes::model_or_float32,
               turn ? Shape{p.shape[0], p.shape[2], p.shape[1]} : p.shape);
  }
  const HostTensor* generated = in.allow("generate.output_ids", Dtypes::whole, {kAny, kAny});
  Index prompt = 0;
  if (generated) {
    in.check_range(generated->name, config.vocab_size);
    const HostTensor& start = in.require("generate.input_ids", Dtypes::whole, {generated->shape[0], kAny});
    prompt = start.shape[1];
    if (prompt < 1 || prompt > generated->shape[1])
      in.fail("/tensors/generate.input_ids/shape",
              fmt::format("{}; want a prompt of 1 .. {} tokens", to_string(start.shape), generated->shape[1]));
    for (Index b = 0; b < start.shape[0]; ++b)
      for (Index t = 0; t < prompt; ++t)
        if (start.at(b * prompt + t) != generated->at(b * generated->shape[1] + t))
          in.fail(fmt::format("/tensors/generate.input_ids/data/{}", b * prompt + t),
                  "not how generate.output_ids begins; want the same prompt");
    in.require("generate.logits", Dtypes::model_or_float32,
               {generated->shape[0], generated->shape[1] - prompt, config.vocab_size});
  }
  in.finish();

  const auto run = [&]<class T>(const Numerics<T>& num, const ExpertChoice& given) {
    const auto p = reference::to_parameters<T>(tensors);
    ModelInput<T> input = mixer_input_of<T>(fixture);
    input.input_ids = to_tensor<Index>(fixture.tensor("input.input_ids"));
    give_experts(input, config, given);
    reference::BackboneSaved<T> saved;
    const auto h = reference::backbone_forward<T>(num, config, quirks, p, input, &saved);
    RoutedResults<T> results;
    results.tensors["output.logits"] = reference::lm_head_forward(num, p, h);
    const auto loss = reference::in_model_loss(num, results.tensors["output.logits"],
                                               to_tensor<Index>(fixture.tensor("input.labels")));
    results.tensors["output.loss"] = scalar(loss.value);
    reference::Parameters<T> d_p;
    reference::backbone_backward<T>(num, config, quirks, p, input, saved,
                                    reference::lm_head_backward(num, p, h, loss.d_logits, d_p), d_p);
    for (auto& [name, gradient] : d_p.entries())
      results.tensors["grad." + transformers_name(name)] =
          is_transposed(name) ? transposed(gradient.value) : std::move(gradient.value);
    take_routers(results, saved.blocks);
    if (generated) {
      const auto tokens = to_tensor<Index>(*generated);
      results.tensors["generate.logits"] =
          teacher_forced_logits(num, config, quirks, p, tokens, prompt, given, results);
      results.tensors["generate.output_ids"] = as_scalars<T>(tokens);
    }
    return results;
  };
  GoldenEvaluation result = evaluate_with_inferred_experts(
      in, kModelTolerance, routed_layer(in, reference::moe_options(config).router, true, run));
  if (generated) validate_tokens(result.tensors, prompt);
  return result;
}

}  // namespace assay::harness
