// The partitions of parallel training, every rank in one process: what they compute must be what one rank
// computes. Pointwise layers act on their own tokens and need nothing here; the Mamba mixer is in
// parallel_partitions_mamba.h.
#pragma once

#include <vector>

#include "reference/attention_layer.h"
#include "reference/moe.h"
#include "reference/parameters.h"

namespace assay::reference {

// ---- context parallelism: tokens

// The tokens of each rank by global position, in the rank's order ("DualChunkSwap"): every document is cut
// into 2c chunks; rank r holds chunk r and chunk 2c - 1 - r of each. cu_seqlens: boundaries of the (padded) documents.
// Throws std::invalid_argument for a document whose length is no multiple of 2c.
struct ContextParallelTokens {
  std::vector<std::vector<Index>> positions;  // [ranks][tokens of the rank]
  std::vector<Index> document;                // of each global position
};
ContextParallelTokens context_parallel_tokens(const std::vector<Index>& cu_seqlens, Index ranks);

// [B, S, ..] -> the rank's tokens [B, S / c, ..], and back.
template <class T>
std::vector<Tensor<T>> shard_tokens(const Tensor<T>& whole, const ContextParallelTokens& tokens);
template <class T>
Tensor<T> join_tokens(const std::vector<Tensor<T>>& shards, const ContextParallelTokens& tokens);

// Attention: each rank's queries against the keys of all ranks, masked by global positions and documents; partial
// results merged by their log-sum-exp. Gradients of keys and values go back to the rank that owns them; parameter
// gradients are summed over ranks.
template <class T>
struct ContextParallelAttentionSaved {
  std::vector<AttentionLayerSaved<T>> ranks;
};
template <class T>
std::vector<Tensor<T>> context_parallel_attention_forward(const Numerics<T>& num, const AttentionDims& dims,
                                                          const ParameterScope<T>& p,
                                                          const std::vector<Tensor<T>>& hidden_states,
                                                          const ContextParallelTokens& tokens,
                                                          ContextParallelAttentionSaved<T>* saved = nullptr);
template <class T>
std::vector<Tensor<T>> context_parallel_attention_backward(
    const Numerics<T>& num, const AttentionDims& dims, const ParameterScope<T>& p,
    const std::vector<Tensor<T>>& hidden_states, const ContextParallelTokens& tokens,
    const ContextParallelAttentionSaved<T>& saved, const std::vector<Tensor<T>>& d_out, const GradientScope<T>& d_p);

// ---- expert parallelism: rank r of n owns experts [r E / n, (r + 1) E / n)

// Routed experts on the tokens of all ranks: latent [T, Dl], weights and indices [T, k] of each rank. Every rank
// computes its experts' share for all tokens, unrounded; the shares are summed over ranks; each rank keeps its rows,
// rounded once.
template <class T>
std::vector<Tensor<T>> expert_parallel_forward(const Numerics<T>& num, const ParameterScope<T>& experts,
                                               const std::vector<Tensor<T>>& latent,
                                               const std::vector<Tensor<T>>& weights,
                                               const std::vector<Tensor<Index>>& indices);
// d_acc: gradients of each rank's result. A rank's experts get gradients from that rank alone.
template <class T>
std::vector<ExpertGradients<T>> expert_parallel_backward(const Numerics<T>& num, const ParameterScope<T>& experts,
                                                         const std::vector<Tensor<T>>& latent,
                                                         const std::vector<Tensor<T>>& weights,
                                                         const std::vector<Tensor<Index>>& indices,
                                                         const std::vector<Tensor<T>>& d_acc,
                                                         const GradientScope<T>& d_experts);

// ---- tensor parallelism: of the dense MLP and the head alone

// Rank r's share of an MLP: rows of up_proj, columns of down_proj; down_proj.bias on rank 0. The ranks' outputs add up.
template <class T>
Parameters<T> tensor_parallel_mlp(const ParameterScope<T>& mlp, Index rank, Index ranks);
// Rank r's rows of a weight [out, in] and so its columns of the output; the ranks' outputs stand side by side.
template <class T>
Tensor<T> tensor_parallel_rows(const Tensor<T>& weight, Index rank, Index ranks);

}  // namespace assay::reference
