// The Mamba2 mixer: training with masks and packed documents; prefill, then steps with the states.
#include <fmt/format.h>

#include "harness/golden/compare.h"
#include "harness/golden/layers.h"
#include "harness/golden/mixer_inputs.h"
#include "reference/mamba2_mixer.h"

namespace assay::harness {
namespace {

using reference::Numerics;

// As upstream: seq_idx as it is, else from cu_seqlens_padded or cu_seqlens. Rows of a larger batch are single
// documents.
std::optional<reference::SeqIdx> seq_idx_of(const Fixture& fixture, Index batch, Index tokens) {
  if (const HostTensor* given = fixture.find("input.seq_idx")) return to_tensor<std::int32_t>(*given);
  const HostTensor* cu = fixture.find("input.cu_seqlens_padded");
  if (!cu) cu = fixture.find("input.cu_seqlens");
  if (!cu) return std::nullopt;
  if (batch > 1) return reference::SeqIdx({batch, tokens});
  const auto numbers = to_tensor<std::int32_t>(*cu);
  return reference::SeqIdx({1, tokens}, reference::seq_idx_from_cu_seqlens(numbers.span(), tokens));
}

GoldenEvaluation evaluate_training(FixtureReader& in) {
  const Fixture& fixture = in.fixture();
  const reference::NemotronV3Config config = in.config(reference::BlockType::mamba);
  const Shape shape = in.hidden_states(config.hidden_size, true);
  const Index batch = shape.size() == 3 ? shape[0] : 1, tokens = shape[shape.size() - 2];
  in.parameters(mixer_shapes(config, reference::BlockType::mamba));
  in.allow("input.attention_mask", Dtypes::mask, {batch, tokens});
  check_documents(in, batch, tokens);
  in.finish();

  return evaluate(in, kLayerTolerance, [&]<class T>(const Numerics<T>& num) {
    const auto all = parameters_of<T>(fixture);
    const reference::ParameterScope<T> p(all);
    const auto u = to_tensor<T>(fixture.tensor("input.hidden_states"));
    const auto mask = to_tensor<std::uint8_t>(fixture.find("input.attention_mask"));
    const auto seq_idx = seq_idx_of(fixture, batch, tokens);
    const auto* m = mask ? &*mask : nullptr;
    const auto* s = seq_idx ? &*seq_idx : nullptr;
    reference::Mamba2MixerSaved<T> saved;
    Tensors<T> results;
    results["output.hidden_states"] = reference::mamba2_mixer_forward(num, config, p, u, m, s, &saved);
    if (!in.has_gradients()) return results;
    const auto d_out = to_tensor<T>(fixture.tensor("grad.output.hidden_states"));
    reference::Parameters<T> d_p;
    results["grad.input.hidden_states"] =
        reference::mamba2_mixer_backward(num, config, p, u, m, s, saved, d_out, reference::GradientScope<T>(d_p));
    add_gradients(results, std::move(d_p));
    return results;
  });
}

GoldenEvaluation evaluate_cached(FixtureReader& in) {
  const Fixture& fixture = in.fixture();
  const reference::NemotronV3Config c = in.config(reference::BlockType::mamba);
  const Shape shape = in.hidden_states(c.hidden_size);
  in.parameters(mixer_shapes(c, reference::BlockType::mamba));
  in.allow("input.attention_mask", Dtypes::mask, {shape[0], shape[1]});
  const Index steps = in.integer("decode_steps", 0, static_cast<Index>(fixture.tensors.size()));
  const Shape conv_shape = {shape[0], c.conv_dim(), c.conv_kernel},
              ssm_shape = {shape[0], c.mamba_num_heads, c.mamba_head_dim, c.ssm_state_size};
  bool ssm_in_float32 = false;
  for (Index step = -1; step < steps; ++step) {
    const std::string at = step < 0 ? "" : fmt::format("decode.{}.", step);
    if (step >= 0) in.require(at + "input.hidden_states", Dtypes::model, {shape[0], 1, shape[2]});
    if (step >= 0) in.require(at + "output.hidden_states", Dtypes::model, {shape[0], 1, shape[2]});
    in.allow(at + "output.conv_state", Dtypes::model, conv_shape);
    // Its dtype says how the cache keeps it: the model's, or Hugging Face's float32.
    if (const HostTensor* ssm = in.allow(at + "output.ssm_state", Dtypes::model_or_float32, ssm_shape))
      ssm_in_float32 = ssm->dtype == DType::float32;
  }
  in.finish();

  const reference::Mamba2MixerOptions options{.ssm_state_in_float32 = ssm_in_float32};
  return evaluate(in, kLayerTolerance, [&]<class T>(const Numerics<T>& num) {
    const auto all = parameters_of<T>(fixture);
    const reference::ParameterScope<T> p(all);
    const auto mask = to_tensor<std::uint8_t>(fixture.find("input.attention_mask"));
    reference::Tensor<T> conv(conv_shape), ssm(ssm_shape);
    Tensors<T> results;
    for (Index step = -1; step < steps; ++step) {
      const std::string at = step < 0 ? "" : fmt::format("decode.{}.", step);
      const auto u = to_tensor<T>(fixture.tensor(at + "input.hidden_states"));
      results[at + "output.hidden_states"] =
          step < 0 ? reference::mamba2_mixer_prefill(num, c, p, u, mask ? &*mask : nullptr, conv, ssm,
                                                     reference::Mamba2Prefill::from_zeros, options)
                   : reference::mamba2_mixer_decode(num, c, p, u, nullptr, conv, ssm, options);
      results[at + "output.conv_state"] = conv;
      results[at + "output.ssm_state"] = ssm;
    }
    return results;
  });
}

}  // namespace

GoldenEvaluation evaluate_mamba2_mixer_fixture(const Fixture& fixture) {
  FixtureReader in(fixture, "input.hidden_states");
  require_path(in, {"train", "prefill_decode"});
  return fixture.path == "train" ? evaluate_training(in) : evaluate_cached(in);
}

}  // namespace assay::harness
