#include "reference/model.h"

#include <algorithm>

#include "reference/check.h"
#include "reference/embedding.h"
#include "reference/linear.h"
#include "reference/model_norm.h"

namespace assay::reference {
namespace {

std::string layer_prefix(Index i) { return "model.layers." + std::to_string(i) + "."; }

template <class T>
Tensor<T> embed(const NemotronV3Config& config, const Parameters<T>& p, const ModelInput<T>& input) {
  if (input.embeddings) {
    require(input.embeddings->rank() == 3 && input.embeddings->dim(2) == config.hidden_size, "model: embeddings ",
            to_string(input.embeddings->shape()), "; want [B, S, ", config.hidden_size, "]");
    return *input.embeddings;
  }
  require(input.input_ids.rank() == 2, "model: input_ids ", to_string(input.input_ids.shape()), "; want [B, S]");
  return embedding_forward(p["model.embed_tokens.weight"], input.input_ids.span())
      .reshaped({input.input_ids.dim(0), input.input_ids.dim(1), config.hidden_size});
}

template <class T>
MixerInputs<T> with_experts_of_layer(MixerInputs<T> inputs, const ModelInput<T>& input, Index layer) {
  const auto given = input.expert_indices.find(layer);
  inputs.expert_indices = given == input.expert_indices.end() ? nullptr : &given->second;
  return inputs;
}

bool is_all_ones(const Tensor<std::uint8_t>& mask) {
  return std::all_of(mask.span().begin(), mask.span().end(), [](std::uint8_t bit) { return bit != 0; });
}

Tensor<std::int32_t> seq_idx_of(const std::vector<Index>& cu_seqlens, Index seq_len) {
  const std::vector<std::int32_t> cu(cu_seqlens.begin(), cu_seqlens.end());
  return Tensor<std::int32_t>({1, seq_len}, seq_idx_from_cu_seqlens(cu, seq_len));
}

template <class T>
Loss<T> mean_cross_entropy(const Numerics<T>& num, const Tensor<T>& logits, const Tensor<Index>& targets,
                           std::optional<Index> count) {
  const Index vocab = logits.dim(-1), tokens = targets.size();
  require(logits.size() == tokens * vocab, "loss: logits ", to_string(logits.shape()), ", labels ",
          to_string(targets.shape()), "; want [B, S, V] and [B, S]");
  const Tensor<T> rows = logits.reshaped({tokens, vocab});
  const Tensor<Index> flat = targets.reshaped({tokens});
  const CrossEntropy<T> forward = cross_entropy_forward(num, rows, flat);
  const Index divisor = count.value_or(forward.count);
  if (divisor == 0) return {0, Tensor<T>(logits.shape())};
  return {forward.sum / static_cast<T>(divisor),
          cross_entropy_backward(num, rows, flat, forward, T(1) / static_cast<T>(divisor)).reshaped(logits.shape())};
}

}  // namespace

template <class T>
MixerInputs<T> mixer_inputs(const Quirks& quirks, const ModelInput<T>& input, Index batch, Index seq_len) {
  if (input.attention_mask) require_shape("model", "attention_mask", *input.attention_mask, {batch, seq_len});
  if (input.seq_idx) require_shape("model", "seq_idx", *input.seq_idx, {batch, seq_len});
  std::vector<Index> cu = input.cu_seqlens;
  if (quirks.automatic_cu_seqlens && cu.empty() && batch == 1 && input.attention_mask)
    cu = {0, std::count(input.attention_mask->span().begin(), input.attention_mask->span().end(), 1)};
  const bool is_packed = !cu.empty() && batch == 1;  // rows of a larger batch are single documents
  const bool has_padding = input.attention_mask && !is_all_ones(*input.attention_mask);

  MixerInputs<T> result;
  if (input.mask_4d)
    result.attention = *input.mask_4d;
  else if (is_packed && !input.cu_seqlens.empty() && !quirks.attention_ignores_cu_seqlens)
    result.attention = AttentionMask<T>::packed(cu, input.cu_seqlens_padded, seq_len);
  else if (has_padding)
    result.attention = AttentionMask<T>::causal_with_padding(*input.attention_mask);

  // With document numbers and a 4-D mask the padding is theirs to say.
  if (has_padding && !(input.seq_idx && input.mask_4d)) result.mamba_mask = input.attention_mask;
  if (input.seq_idx)
    result.seq_idx = input.seq_idx;
  else if (is_packed)
    result.seq_idx = seq_idx_of(input.cu_seqlens_padded.empty() ? cu : input.cu_seqlens_padded, seq_len);
  return result;
}

template <class T>
Tensor<T> backbone_forward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                           const Parameters<T>& p, const ModelInput<T>& input, BackboneSaved<T>* saved) {
  Tensor<T> h = embed(config, p, input);
  const MixerInputs<T> inputs = mixer_inputs(quirks, input, h.dim(0), h.dim(1));
  if (saved) saved->blocks.resize(config.layers_block_type.size());
  for (Index i = 0; i < config.num_hidden_layers(); ++i)
    h = block_forward(num, config, quirks, config.layers_block_type[i], ParameterScope<T>(p, layer_prefix(i)), h,
                      with_experts_of_layer(inputs, input, i), saved ? &saved->blocks[i] : nullptr);
  Tensor<T> out = model_norm_forward(num, config, quirks, p["model.norm.weight"], h, saved ? &saved->rstd : nullptr);
  if (saved) {
    saved->inputs = inputs;
    saved->stream = std::move(h);
  }
  return out;
}

template <class T>
Tensor<T> backbone_backward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                            const Parameters<T>& p, const ModelInput<T>& input, const BackboneSaved<T>& saved,
                            const Tensor<T>& d_hidden_states, Parameters<T>& d_p) {
  const Index width = config.hidden_size, tokens = saved.stream.size() / width;
  const auto in_float32 = [&](Index blocks_before) { return config.residual_in_fp32 && blocks_before > 0; };
  const GradientScope<T> d(d_p);
  Tensor<T> d_h = model_norm_backward(num, ParameterScope<T>(p), "model.norm.weight", saved.stream, saved.rstd,
                                      d_hidden_states, in_float32(config.num_hidden_layers()), d);
  for (Index i = config.num_hidden_layers(); i-- > 0;)
    d_h = block_backward(num, config, quirks, config.layers_block_type[i], ParameterScope<T>(p, layer_prefix(i)),
                         with_experts_of_layer(saved.inputs, input, i), saved.blocks[i], d_h, in_float32(i),
                         d.scope(layer_prefix(i)));
  if (!input.embeddings)
    d.add(num, "model.embed_tokens.weight",
          embedding_backward(num, input.input_ids.span(), d_h.reshaped({tokens, width}), config.vocab_size));
  return d_h;
}

template <class T>
Tensor<T> lm_head_forward(const Numerics<T>& num, const Parameters<T>& p, const Tensor<T>& hidden_states,
                          Index logits_to_keep) {
  require(logits_to_keep >= 0, "lm_head_forward: logits_to_keep = ", logits_to_keep, "; want >= 0");
  const Index seq_len = hidden_states.dim(1),
              first = logits_to_keep == 0 ? 0 : std::max<Index>(0, seq_len - logits_to_keep);
  if (first == 0) return linear_forward(num, hidden_states, p["lm_head.weight"]);
  std::vector<Index> positions;
  for (Index t = first; t < seq_len; ++t) positions.push_back(t);
  return lm_head_forward(num, p, hidden_states, positions);
}

template <class T>
Tensor<T> lm_head_forward(const Numerics<T>& num, const Parameters<T>& p, const Tensor<T>& hidden_states,
                          const std::vector<Index>& positions) {
  const Index batch = hidden_states.dim(0), seq_len = hidden_states.dim(1), width = hidden_states.dim(2);
  Tensor<T> kept({batch, static_cast<Index>(positions.size()), width});
  T* next = kept.data();
  for (Index b = 0; b < batch; ++b)
    for (Index t : positions) {
      require(t >= 0 && t < seq_len, "lm_head_forward: position ", t, "; want 0 .. ", seq_len - 1);
      next = std::copy_n(hidden_states.data() + (b * seq_len + t) * width, width, next);
    }
  return linear_forward(num, kept, p["lm_head.weight"]);
}

template <class T>
Tensor<T> lm_head_backward(const Numerics<T>& num, const Parameters<T>& p, const Tensor<T>& hidden_states,
                           const Tensor<T>& d_logits, Parameters<T>& d_p) {
  LinearGradients<T> d = linear_backward(num, hidden_states, p["lm_head.weight"], d_logits);
  GradientScope<T>(d_p).add(num, "lm_head.weight", std::move(d.weight));
  return std::move(d.x);
}

template <class T>
Loss<T> in_model_loss(const Numerics<T>& num, const Tensor<T>& logits, const Tensor<Index>& labels) {
  return mean_cross_entropy(num, logits, shifted_labels(labels), {});
}

template <class T>
Loss<T> recipe_loss(const Numerics<T>& num, const Tensor<T>& logits, const Tensor<Index>& labels,
                    Index num_label_tokens) {
  require(num_label_tokens >= 0, "recipe_loss: num_label_tokens = ", num_label_tokens, "; want >= 0");
  return mean_cross_entropy(num, logits, labels, num_label_tokens);
}

template <class T>
Tensor<T> backbone_step(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                        const Parameters<T>& p, const ModelInput<T>& input, HybridCache<T>& cache,
                        std::vector<BlockSaved<T>>* saved) {
  require(input.cu_seqlens.empty() && !input.seq_idx, "backbone_step: packed documents; want one sequence per row");
  Tensor<T> h = embed(config, p, input);
  const Index batch = h.dim(0), count = h.dim(1), total = cache.tokens + count;
  if (input.attention_mask) require_shape("backbone_step", "attention_mask", *input.attention_mask, {batch, count});

  // The mask of all tokens so far, once there is one.
  if (input.attention_mask || !cache.token_mask.empty()) {
    Tensor<std::uint8_t> mask({batch, total}, 1);
    for (Index b = 0; b < batch; ++b) {
      if (!cache.token_mask.empty())
        std::copy_n(cache.token_mask.data() + b * cache.tokens, cache.tokens, mask.data() + b * total);
      if (input.attention_mask)
        std::copy_n(input.attention_mask->data() + b * count, count, mask.data() + b * total + cache.tokens);
    }
    cache.token_mask = std::move(mask);
  }
  MixerInputs<T> inputs;
  const bool sees_future = quirks.continued_prefill_forgets && cache.tokens > 0;
  inputs.attention = sees_future ? AttentionMask<T>::everything() : AttentionMask<T>::causal(cache.tokens);
  if (input.mask_4d)
    inputs.attention = *input.mask_4d;
  else if (!cache.token_mask.empty() && !is_all_ones(cache.token_mask) && !quirks.generation_attends_padding)
    inputs.attention = AttentionMask<T>::causal_with_padding(cache.token_mask, cache.tokens);
  // While decoding the model passes no mask to the Mamba blocks.
  if (input.attention_mask && !(cache.has_previous_state && count == 1)) inputs.mamba_mask = input.attention_mask;

  if (saved) saved->assign(config.layers_block_type.size(), {});
  for (Index i = 0; i < config.num_hidden_layers(); ++i)
    h = block_cached(num, config, quirks, i, ParameterScope<T>(p, layer_prefix(i)), h,
                     with_experts_of_layer(inputs, input, i), cache, saved ? &(*saved)[i] : nullptr);
  cache.tokens = total;
  cache.has_previous_state = true;
  return model_norm_forward(num, config, quirks, p["model.norm.weight"], h);
}

template <class T>
std::vector<Index> greedy_tokens(const Tensor<T>& logits) {
  const Index vocab = logits.dim(-1);
  std::vector<Index> tokens;
  for (Index row = 0; row < logits.size(); row += vocab)
    tokens.push_back(std::max_element(logits.data() + row, logits.data() + row + vocab) - (logits.data() + row));
  return tokens;
}

template <class T>
Generation<T> generate_greedily(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                                const Parameters<T>& p, const Tensor<Index>& prompt, Index new_tokens) {
  const Index batch = prompt.dim(0), length = prompt.dim(1);
  Generation<T> result{Tensor<Index>({batch, length + new_tokens}), Tensor<T>({batch, new_tokens, config.vocab_size})};
  for (Index b = 0; b < batch; ++b)
    std::copy_n(prompt.data() + b * length, length, result.tokens.data() + b * (length + new_tokens));
  HybridCache<T> cache = make_cache<T>(config, batch);
  ModelInput<T> step;
  step.input_ids = prompt;
  for (Index n = 0; n < new_tokens; ++n) {
    const Tensor<T> logits = lm_head_forward(num, p, backbone_step(num, config, quirks, p, step, cache), 1);
    const std::vector<Index> chosen = greedy_tokens(logits);
    step.input_ids = Tensor<Index>({batch, 1}, chosen);
    for (Index b = 0; b < batch; ++b) {
      result.tokens(b, length + n) = chosen[b];
      std::copy_n(logits.data() + b * config.vocab_size, config.vocab_size, &result.logits(b, n, 0));
    }
  }
  return result;
}

#define ASSAY_INSTANTIATE(T)                                                                                         \
  template MixerInputs<T> mixer_inputs(const Quirks&, const ModelInput<T>&, Index, Index);                           \
  template Tensor<T> backbone_forward(const Numerics<T>&, const NemotronV3Config&, const Quirks&,                    \
                                      const Parameters<T>&, const ModelInput<T>&, BackboneSaved<T>*);                \
  template Tensor<T> backbone_backward(const Numerics<T>&, const NemotronV3Config&, const Quirks&,                   \
                                       const Parameters<T>&, const ModelInput<T>&, const BackboneSaved<T>&,          \
                                       const Tensor<T>&, Parameters<T>&);                                            \
  template Tensor<T> lm_head_forward(const Numerics<T>&, const Parameters<T>&, const Tensor<T>&, Index);             \
  template Tensor<T> lm_head_forward(const Numerics<T>&, const Parameters<T>&, const Tensor<T>&,                     \
                                     const std::vector<Index>&);                                                     \
  template Tensor<T> lm_head_backward(const Numerics<T>&, const Parameters<T>&, const Tensor<T>&, const Tensor<T>&,  \
                                      Parameters<T>&);                                                               \
  template Loss<T> in_model_loss(const Numerics<T>&, const Tensor<T>&, const Tensor<Index>&);                        \
  template Loss<T> recipe_loss(const Numerics<T>&, const Tensor<T>&, const Tensor<Index>&, Index);                   \
  template Tensor<T> backbone_step(const Numerics<T>&, const NemotronV3Config&, const Quirks&, const Parameters<T>&, \
                                   const ModelInput<T>&, HybridCache<T>&, std::vector<BlockSaved<T>>*);              \
  template std::vector<Index> greedy_tokens(const Tensor<T>&);                                                       \
  template Generation<T> generate_greedily(const Numerics<T>&, const NemotronV3Config&, const Quirks&,               \
                                           const Parameters<T>&, const Tensor<Index>&, Index);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
