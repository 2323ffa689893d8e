#include "reference/block.h"

#include "reference/check.h"
#include "reference/model_norm.h"

namespace assay::reference {
namespace {

MoeOptions moe_options(const NemotronV3Config& config, const Quirks& quirks) {
  MoeOptions options = moe_options(config);
  options.weight_after_down = quirks.hugging_face_routing;
  options.router.drop_groups_by_infinity = quirks.hugging_face_routing;
  options.router.normalize_single_expert = quirks.hugging_face_routing;
  options.router.weights_in_float32 = quirks.hugging_face_routing;
  return options;
}

Mamba2MixerOptions mamba_options(const Quirks& quirks) {
  return {.mask_after_conv = quirks.mamba_masks_after_conv,
          .clamp_by_time_step_min = quirks.mamba_clamps_by_time_step_min,
          .ssm_state_in_float32 = quirks.ssm_cache_in_float32};
}

// h + mixer output: in float32 where the stream is kept there, else rounded.
template <class T>
Tensor<T> added(const Numerics<T>& num, const NemotronV3Config& config, const Tensor<T>& h, Tensor<T> mixed) {
  const Numerics<T> stream = config.residual_in_fp32 ? num.unrounded() : num;
  for (Index i = 0; i < mixed.size(); ++i) mixed[i] = stream.store(h[i] + mixed[i]);
  return mixed;
}

template <class T>
const T* pointer(const std::optional<T>& value) {
  return value ? &*value : nullptr;
}

}  // namespace

template <class T>
Tensor<T> block_forward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks, BlockType type,
                        const ParameterScope<T>& p, const Tensor<T>& hidden_states, const MixerInputs<T>& inputs,
                        BlockSaved<T>* saved) {
  require(hidden_states.rank() == 3 && hidden_states.dim(2) == config.hidden_size, "block_forward: hidden_states ",
          to_string(hidden_states.shape()), "; want [B, S, ", config.hidden_size, "]");
  BlockSaved<T> s;
  s.normed = model_norm_forward(num, config, quirks, p["norm.weight"], hidden_states, &s.rstd);
  const ParameterScope<T> mixer = p.scope("mixer.");
  Tensor<T> mixed;
  switch (type) {
    case BlockType::mamba:
      mixed = mamba2_mixer_forward(num, config, mixer, s.normed, pointer(inputs.mamba_mask), pointer(inputs.seq_idx),
                                   &s.mixer.template emplace<Mamba2MixerSaved<T>>(), mamba_options(quirks));
      break;
    case BlockType::attention:
      mixed = attention_layer_forward(num, attention_dims(config), mixer, s.normed, inputs.attention,
                                      &s.mixer.template emplace<AttentionLayerSaved<T>>());
      break;
    case BlockType::mlp:
      mixed = mlp_forward(num, mixer, s.normed, &s.mixer.template emplace<MlpSaved<T>>());
      break;
    case BlockType::moe:
      mixed = moe_forward(num, moe_options(config, quirks), mixer, s.normed, nullptr, inputs.expert_indices,
                          &s.mixer.template emplace<MoeSaved<T>>());
      break;
  }
  Tensor<T> out = added(num, config, hidden_states, std::move(mixed));
  if (saved) {
    s.hidden_states = hidden_states;
    *saved = std::move(s);
  }
  return out;
}

template <class T>
Tensor<T> block_backward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks, BlockType type,
                         const ParameterScope<T>& p, const MixerInputs<T>& inputs, const BlockSaved<T>& saved,
                         const Tensor<T>& d_out, bool stream_in_float32, const GradientScope<T>& d_p) {
  const ParameterScope<T> mixer = p.scope("mixer.");
  const GradientScope<T> d_mixer = d_p.scope("mixer.");
  // The mixer's output is in the model's dtype, whatever the stream is.
  Tensor<T> d_mixed = d_out;
  num.store(d_mixed.span());
  Tensor<T> d_normed;
  switch (type) {
    case BlockType::mamba:
      d_normed =
          mamba2_mixer_backward(num, config, mixer, saved.normed, pointer(inputs.mamba_mask), pointer(inputs.seq_idx),
                                std::get<Mamba2MixerSaved<T>>(saved.mixer), d_mixed, d_mixer, mamba_options(quirks));
      break;
    case BlockType::attention:
      d_normed = attention_layer_backward(num, attention_dims(config), mixer, saved.normed, inputs.attention,
                                          std::get<AttentionLayerSaved<T>>(saved.mixer), d_mixed, d_mixer);
      break;
    case BlockType::mlp:
      d_normed = mlp_backward(num, mixer, saved.normed, std::get<MlpSaved<T>>(saved.mixer), d_mixed, d_mixer);
      break;
    case BlockType::moe:
      d_normed = moe_backward(num, moe_options(config, quirks), mixer, saved.normed, nullptr,
                              std::get<MoeSaved<T>>(saved.mixer), d_mixed, d_mixer);
      break;
  }
  Tensor<T> d_h =
      model_norm_backward(num, p, "norm.weight", saved.hidden_states, saved.rstd, d_normed, stream_in_float32, d_p);
  const Numerics<T> stream = stream_in_float32 ? num.unrounded() : num;
  for (Index i = 0; i < d_h.size(); ++i) d_h[i] = stream.store(d_h[i] + stream.store(d_out[i]));
  return d_h;
}

template <class T>
Tensor<T> block_cached(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks, Index layer,
                       const ParameterScope<T>& p, const Tensor<T>& hidden_states, const MixerInputs<T>& inputs,
                       HybridCache<T>& cache, BlockSaved<T>* saved) {
  const BlockType type = config.layers_block_type.at(layer);
  if (type == BlockType::mlp || type == BlockType::moe)
    return block_forward(num, config, quirks, type, p, hidden_states, inputs, saved);
  const Tensor<T> normed = model_norm_forward(num, config, quirks, p["norm.weight"], hidden_states);
  const ParameterScope<T> mixer = p.scope("mixer.");
  if (type == BlockType::attention)
    return added(num, config, hidden_states,
                 attention_layer_cached(num, attention_dims(config), mixer, normed, cache.key_values[layer],
                                        ContinuedPrefill::causal, &inputs.attention));
  Tensor<T>&conv_state = cache.conv_states[layer], &ssm_state = cache.ssm_states[layer];
  const Tensor<std::uint8_t>* mask = pointer(inputs.mamba_mask);
  if (cache.has_previous_state && hidden_states.dim(1) == 1)
    return added(num, config, hidden_states,
                 mamba2_mixer_decode(num, config, mixer, normed, mask, conv_state, ssm_state, mamba_options(quirks)));
  const bool goes_on = cache.has_previous_state && !quirks.continued_prefill_forgets;
  return added(
      num, config, hidden_states,
      mamba2_mixer_prefill(num, config, mixer, normed, mask, conv_state, ssm_state,
                           goes_on ? Mamba2Prefill::continued : Mamba2Prefill::from_zeros, mamba_options(quirks)));
}

#define ASSAY_INSTANTIATE(T)                                                                                           \
  template Tensor<T> block_forward(const Numerics<T>&, const NemotronV3Config&, const Quirks&, BlockType,              \
                                   const ParameterScope<T>&, const Tensor<T>&, const MixerInputs<T>&, BlockSaved<T>*); \
  template Tensor<T> block_backward(const Numerics<T>&, const NemotronV3Config&, const Quirks&, BlockType,             \
                                    const ParameterScope<T>&, const MixerInputs<T>&, const BlockSaved<T>&,             \
                                    const Tensor<T>&, bool, const GradientScope<T>&);                                  \
  template Tensor<T> block_cached(const Numerics<T>&, const NemotronV3Config&, const Quirks&, Index,                   \
                                  const ParameterScope<T>&, const Tensor<T>&, const MixerInputs<T>&, HybridCache<T>&,  \
                                  BlockSaved<T>*);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
