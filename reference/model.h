// The model: embedding, blocks, final norm, head; its two losses; prefill, decode and greedy generation.
//
// Parameters by upstream's names: model.embed_tokens.weight, model.layers.{i}.*, model.norm.weight, lm_head.weight.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "reference/block.h"
#include "reference/cache.h"
#include "reference/cross_entropy.h"

namespace assay::reference {

template <class T>
struct ModelInput {
  Tensor<Index> input_ids;                             // [B, S]; a packed stream is B = 1
  std::optional<Tensor<T>> embeddings;                 // [B, S, D], instead of ids
  std::optional<Tensor<std::uint8_t>> attention_mask;  // [B, S], 1 = real
  std::optional<AttentionMask<T>> mask_4d;           // attention alone sees it; it replaces causality and the 2-D mask
  std::vector<Index> cu_seqlens, cu_seqlens_padded;  // documents of a packed stream
  std::optional<Tensor<std::int32_t>> seq_idx;       // [B, S], instead of cu_seqlens for the Mamba blocks
  std::map<Index, Tensor<Index>> expert_indices;     // by layer: a recorded choice to be used, [B S, k]
  std::map<Index, Tensor<Index>> mtp_expert_indices;  // likewise by depth |pattern| + position in multi-token prediction
};

template <class T>
struct BackboneSaved {
  MixerInputs<T> inputs;
  std::vector<BlockSaved<T>> blocks;
  Tensor<T> stream;  // the last block's output
  Tensor<T> rstd;    // of the final norm
};

// What the mixers see on the training path, from masks and documents.
template <class T>
MixerInputs<T> mixer_inputs(const Quirks& quirks, const ModelInput<T>& input, Index batch, Index seq_len);

// Embedding, blocks, final norm -> [B, S, D].
template <class T>
Tensor<T> backbone_forward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                           const Parameters<T>& p, const ModelInput<T>& input, BackboneSaved<T>* saved = nullptr);

// Gradients of all parameters to d_p. Returns the gradient of the embeddings [B, S, D]; when they came from ids it has
// also been added to d_p's model.embed_tokens.weight.
template <class T>
Tensor<T> backbone_backward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                            const Parameters<T>& p, const ModelInput<T>& input, const BackboneSaved<T>& saved,
                            const Tensor<T>& d_hidden_states, Parameters<T>& d_p);

// Logits of the last n positions (0: of all) [B, n, V], or of the given positions.
template <class T>
Tensor<T> lm_head_forward(const Numerics<T>& num, const Parameters<T>& p, const Tensor<T>& hidden_states,
                          Index logits_to_keep = 0);
template <class T>
Tensor<T> lm_head_forward(const Numerics<T>& num, const Parameters<T>& p, const Tensor<T>& hidden_states,
                          const std::vector<Index>& positions);
// d_logits [B, S, V], of all positions.
template <class T>
Tensor<T> lm_head_backward(const Numerics<T>& num, const Parameters<T>& p, const Tensor<T>& hidden_states,
                           const Tensor<T>& d_logits, Parameters<T>& d_p);

template <class T>
struct Loss {
  T value = 0;         // 0 where no target counts
  Tensor<T> d_logits;  // [B, S, V]
};
// `labels` passed to the model: token t predicts labels[t + 1]; the mean over targets other than -100.
template <class T>
Loss<T> in_model_loss(const Numerics<T>& num, const Tensor<T>& logits, const Tensor<Index>& labels);
// The training recipe: labels are next tokens already; the sum over targets, divided by the tokens of the global batch.
template <class T>
Loss<T> recipe_loss(const Numerics<T>& num, const Tensor<T>& logits, const Tensor<Index>& labels,
                    Index num_label_tokens);

// One step with a cache, from a whole prompt down to one token: the final-normed hidden states of its tokens. The first
// step fills the cache; later ones go on where it stands, by the rules of the language model or, where quirks say so,
// upstream's. input.attention_mask is that of the step's own tokens. cu_seqlens and seq_idx have no meaning here and
// are an error. `saved`, if given, receives what the MLP and MoE blocks keep, one a layer.
template <class T>
Tensor<T> backbone_step(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                        const Parameters<T>& p, const ModelInput<T>& input, HybridCache<T>& cache,
                        std::vector<BlockSaved<T>>* saved = nullptr);

// The largest logit of each row, the lowest index on a tie. logits [.., V]
template <class T>
std::vector<Index> greedy_tokens(const Tensor<T>& logits);

template <class T>
struct Generation {
  Tensor<Index> tokens;  // [B, prompt + new]
  Tensor<T> logits;      // [B, new, V]: what each new token was chosen from
};
template <class T>
Generation<T> generate_greedily(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                                const Parameters<T>& p, const Tensor<Index>& prompt, Index new_tokens);

}  // namespace assay::reference
