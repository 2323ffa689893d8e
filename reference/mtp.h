// Multi-token prediction: depth d = 1 .. Dm predicts the token d further on.
//
//   x = eh_proj( concat( enorm(embed(ids rolled left by d)), hnorm(h^(d-1)) ) )
//   h^d = final_layernorm(blocks of the pattern(x))          h^0 = the model's final-normed hidden states
//
// Parameters: mtp.layers.{j}.* with j = depth * |pattern| + position: a block each; the first of a depth also has
// enorm, hnorm and eh_proj, the last final_layernorm. A repeated layer stores one depth and uses it for all. Embedding
// and head are the model's.
#pragma once

#include <vector>

#include "reference/model.h"

namespace assay::reference {

template <class T>
struct MtpDepthSaved {
  Tensor<T> embeddings, hidden_states;  // e and h^(d-1), before their norms
  Tensor<T> enorm_rstd, hnorm_rstd;
  Tensor<T> fused;  // concat [B, S, 2D]
  std::vector<BlockSaved<T>> blocks;
  Tensor<T> stream;  // the last block's output
  Tensor<T> rstd;    // of final_layernorm
};

template <class T>
struct MtpOutput {
  std::vector<Tensor<T>> hidden_states;  // h^1 .. h^Dm, [B, S, D] each
  std::vector<MtpDepthSaved<T>> saved;
};

// hidden_states: h^0 [B, S, D]. input and inputs: those of the backbone. With embeddings for ids the embeddings are
// rolled; what is rolled in is id 0, or a zero vector. Experts are given by input.mtp_expert_indices.
template <class T>
MtpOutput<T> mtp_forward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                         const Parameters<T>& p, const ModelInput<T>& input, const MixerInputs<T>& inputs,
                         const Tensor<T>& hidden_states);

// d_hidden_states: gradients of h^1 .. h^Dm from outside. Returns the gradient of h^0. The embeddings' gradient goes to
// d_p's model.embed_tokens.weight, or with given embeddings is added to *d_embeddings [B, S, D].
template <class T>
Tensor<T> mtp_backward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                       const Parameters<T>& p, const ModelInput<T>& input, const MixerInputs<T>& inputs,
                       const MtpOutput<T>& out, const std::vector<Tensor<T>>& d_hidden_states, Parameters<T>& d_p,
                       Tensor<T>* d_embeddings = nullptr);

// target_d[t] = labels[t + d] for labels that are next tokens already; -100 for the last d positions of a row, and
// where t + d lies in another document. labels [B, S]; seq_idx [B, S], null without documents.
Tensor<Index> mtp_targets(const Tensor<Index>& labels, Index depth, const Tensor<std::int32_t>* seq_idx = nullptr);

template <class T>
struct TrainingLoss {
  T total = 0, main = 0, mtp = 0;  // total = main + mtp, mtp = scaling / Dm * sum of depths
  std::vector<T> depths;
};

template <class T>
struct TrainingStep {
  TrainingLoss<T> loss;
  Tensor<T> logits;                          // [B, S, V]
  std::vector<Tensor<T>> mtp_hidden_states;  // [B, S, D] each
  Tensor<T> d_embeddings;                    // [B, S, D], where embeddings were given
};

// Forward and backward of the recipe's loss: L = CE(main) + scaling / Dm * sum_d CE_d, each divided by
// num_label_tokens. Gradients of all parameters go to d_p. Without MTP in the config: the main loss alone.
template <class T>
TrainingStep<T> training_step(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                              const Parameters<T>& p, const ModelInput<T>& input, const Tensor<Index>& labels,
                              Index num_label_tokens, Parameters<T>& d_p);

}  // namespace assay::reference
