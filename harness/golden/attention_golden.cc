// The attention layer: training with any mask, and prefill followed by steps with a cache.
#include <fmt/format.h>

#include <cmath>

#include "harness/core/expectation.h"
#include "harness/golden/attention_terms.h"
#include "harness/golden/compare.h"
#include "harness/golden/layers.h"
#include "harness/golden/mixer_inputs.h"
#include "reference/attention_layer.h"
#include "reference/projection.h"

namespace assay::harness {
namespace {

using reference::AttentionMask;
using reference::Numerics;

// The gradients of q_proj and k_proj that are below one rounding of their terms are rounding noise: 8 standard
// deviations of it bound them.
void limit_noise(const FixtureReader& in, const AttentionTerms& terms, std::vector<GoldenTensor>& tensors) {
  const double unit = in.model() == DType::bfloat16 ? 0x1p-9 : kUnit;
  const HostTensor& u = in.fixture().tensor("input.hidden_states");
  const Index width = u.shape.back();
  std::vector<double> largest_input(width);
  for (Index i = 0; i < u.size(); ++i) largest_input[i % width] = std::max(largest_input[i % width], std::abs(u.at(i)));
  for (GoldenTensor& g : tensors) {
    const bool of_k = g.name.starts_with("grad.k_proj.");
    if (!of_k && !g.name.starts_with("grad.q_proj.")) continue;
    const std::vector<double>& by_output = of_k ? terms.k : terms.q;
    std::vector<double> sizes;
    for (const double size : by_output) {
      if (g.name.ends_with("bias"))
        sizes.push_back(size);
      else
        for (const double x : largest_input) sizes.push_back(size * x);
    }
    g.terms_rms = rms(sizes);
    if (rms(g.oracle) >= unit * g.terms_rms) continue;
    g.limit = std::move(sizes);
    for (double& limit : g.limit) limit *= kSigmas * unit;
  }
}

GoldenEvaluation evaluate_training(FixtureReader& in) {
  const Fixture& fixture = in.fixture();
  const reference::NemotronV3Config config = in.config(reference::BlockType::attention);
  const reference::AttentionDims dims = reference::attention_dims(config);
  const Shape shape = in.hidden_states(config.hidden_size, true);
  const Index batch = shape.size() == 3 ? shape[0] : 1, tokens = shape[shape.size() - 2];
  in.parameters(mixer_shapes(config, reference::BlockType::attention));
  check_attention_mask(in, {batch, config.num_attention_heads, tokens, tokens});
  check_documents(in, batch, tokens);
  const reference::Quirks quirks = quirks_of(in);
  in.finish();

  std::optional<AttentionTerms> terms;
  const auto run = [&]<class T>(const Numerics<T>& num) {
    const auto p = parameters_of<T>(fixture);
    const auto u = to_tensor<T>(fixture.tensor("input.hidden_states"));
    const AttentionMask<T> mask = reference::mixer_inputs(quirks, mixer_input_of<T>(fixture), batch, tokens).attention;
    reference::AttentionLayerSaved<T> saved;
    Tensors<T> results;
    results["output.hidden_states"] = reference::attention_layer_forward<T>(num, dims, p, u, mask, &saved);
    if (!in.has_gradients()) return results;
    const auto d_out = to_tensor<T>(fixture.tensor("grad.output.hidden_states"));
    reference::Parameters<T> d_p;
    results["grad.input.hidden_states"] =
        reference::attention_layer_backward<T>(num, dims, p, u, mask, saved, d_out, d_p);
    add_gradients(results, std::move(d_p));
    if constexpr (std::is_same_v<T, double>) {
      reference::Parameters<T> unused;
      Shape concat = shape;
      concat.back() = config.attention_width();
      const auto d_o =
          reference::projection_backward<T>(num, p, "o_proj.", saved.attention.o.reshaped(concat), d_out, unused);
      terms = attention_terms(mask, saved, d_o.reshaped(saved.q.shape()));
    }
    return results;
  };
  GoldenEvaluation result = evaluate(in, kLayerTolerance, run);
  if (terms) limit_noise(in, *terms, result.tensors);
  return result;
}

// Upstream's own rule for several tokens on a filled cache is not the language model's (they see their own future).
reference::ContinuedPrefill continued_prefill(FixtureReader& in) {
  const bool forgets = in.boolean("continued_prefill_forgets", origin_of(in.fixture()) != Origin::reference);
  return forgets ? reference::ContinuedPrefill::sees_all_keys : reference::ContinuedPrefill::causal;
}

GoldenEvaluation evaluate_cached(FixtureReader& in) {
  const Fixture& fixture = in.fixture();
  const reference::NemotronV3Config config = in.config(reference::BlockType::attention);
  const reference::AttentionDims dims = reference::attention_dims(config);
  const Shape shape = in.hidden_states(config.hidden_size);
  in.parameters(mixer_shapes(config, reference::BlockType::attention));
  const Index steps = in.integer("decode_steps", 0, static_cast<Index>(fixture.tensors.size()));
  const reference::ContinuedPrefill continued = continued_prefill(in);
  const HostTensor* mask = fixture.find("input.attention_mask");
  if (mask && mask->shape.size() < 3)
    in.fail("/tensors/input.attention_mask/shape", to_string(mask->shape) + "; want 3 or 4 axes beside a cache");
  check_attention_mask(in, {shape[0], config.num_attention_heads, shape[1], shape[1]});
  Index keys = 0;
  for (Index step = -1; step < steps; ++step) {
    const std::string at = step < 0 ? "" : fmt::format("decode.{}.", step);
    const Shape in_shape = in.require(at + "input.hidden_states", Dtypes::model, {shape[0], kAny, shape[2]}).shape;
    in.require(at + "output.hidden_states", Dtypes::model, in_shape);
    keys += in_shape[1];
    for (const char* cache : {"key_cache", "value_cache"})
      in.allow(at + "output." + cache, Dtypes::model, {shape[0], config.num_key_value_heads, keys, config.head_dim});
  }
  in.finish();

  return evaluate(in, kLayerTolerance, [&]<class T>(const Numerics<T>& num) {
    const auto p = parameters_of<T>(fixture);
    reference::KeyValueCache<T> cache;
    Tensors<T> results;
    for (Index step = -1; step < steps; ++step) {
      const std::string at = step < 0 ? "" : fmt::format("decode.{}.", step);
      const auto u = to_tensor<T>(fixture.tensor(at + "input.hidden_states"));
      const AttentionMask<T> given = attention_mask_of<T>(fixture);
      results[at + "output.hidden_states"] =
          reference::attention_layer_cached<T>(num, dims, p, u, cache, continued, step < 0 && mask ? &given : nullptr);
      results[at + "output.key_cache"] = cache.keys;
      results[at + "output.value_cache"] = cache.values;
    }
    return results;
  });
}

}  // namespace

GoldenEvaluation evaluate_attention_fixture(const Fixture& fixture) {
  FixtureReader in(fixture, "input.hidden_states");
  require_path(in, {"train", "prefill_decode"});
  return fixture.path == "train" ? evaluate_training(in) : evaluate_cached(in);
}

}  // namespace assay::harness
