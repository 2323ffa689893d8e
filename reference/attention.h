// Attention with grouped query heads and no positional encoding: the product alone, on queries, keys,
// values.
//
//   S_ij = tau q_i.k_j + mask      P_ij = exp(S_ij - max_j S_ij)      o_i = sum_j P_ij v_j / sum_j P_ij
//
// tau = head_dim^(-1/2); query head h reads key/value head h / (Hq / Hkv). A query that sees no key gives o = 0 and no
// gradient. Matched policy: S and its softmax in float32, P rounded before the product with v, o rounded once; backward
// P and S_bar rounded before their products.
//
// Computed in stacks of queries against all keys that any of them may see, so memory beyond inputs and outputs is keys and
// values packed for the products, a stack's scores for each thread, and in backward one gradient of keys and values for
// every four query heads.
#pragma once

#include "reference/attention_mask.h"
#include "reference/gemm.h"
#include "reference/numerics.h"
#include "reference/tensor.h"

namespace assay::reference {

// Where head h of batch row b keeps its tokens: a matrix [tokens, head_dim].
enum class HeadLayout {
  tokens_first,  // [B, S, heads, head_dim]: as the projections write them
  heads_first,   // [B, heads, S, head_dim]: as a cache holds them
};

template <class T>
struct AttentionOutput {
  Tensor<T> o;            // [B, queries, Hq, head_dim]
  Tensor<T> log_sum_exp;  // [B, Hq, queries], -inf where no key is seen
};

template <class T>
struct AttentionGradients {
  Tensor<T> q, k, v;  // shaped as q, k, v; k and v summed over the query heads that read them
};

// q [B, queries, Hq, head_dim]   k, v [B, keys, Hkv, head_dim], or [B, Hkv, keys, head_dim] if heads_first
// Throws std::invalid_argument if shapes or mask do not fit together.
template <class T>
AttentionOutput<T> attention_forward(const Numerics<T>& num, const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v,
                                     const AttentionMask<T>& mask, HeadLayout keys = HeadLayout::tokens_first);

template <class T>
AttentionGradients<T> attention_backward(const Numerics<T>& num, const Tensor<T>& q, const Tensor<T>& k,
                                         const Tensor<T>& v, const AttentionMask<T>& mask,
                                         const AttentionOutput<T>& out, const Tensor<T>& d_o);

// What each output element is a sum of, for limits on its error: sum_j |P_ij v_j| and sum_j (P_ij v_j)^2, P normalised.
template <class T>
struct AttentionTerms {
  Tensor<T> absolute, squares;  // [B, queries, Hq, head_dim]
};
template <class T>
AttentionTerms<T> attention_terms(const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v,
                                  const AttentionMask<T>& mask, HeadLayout keys = HeadLayout::tokens_first);

// The same of the gradients. q and k: tau P_ij (d_o_i[d] v_j[d] - d_o_i[d] o_i[d]) k_j over d and j, or q_i over d and i; v:
// P_ij d_o_i. P and o count as one number each.
template <class T>
struct AttentionBackwardTerms {
  AttentionGradients<T> absolute, squares;
};
template <class T>
AttentionBackwardTerms<T> attention_backward_terms(const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v,
                                                   const AttentionMask<T>& mask, const AttentionOutput<T>& out,
                                                   const Tensor<T>& d_o);

// One attention from attentions of the same queries to disjoint sets of keys (context parallelism):
// lse = ln sum e^lse_b,  o = sum e^(lse_b - lse) o_b.
template <class T>
AttentionOutput<T> merge_attention(const Numerics<T>& num, const std::vector<AttentionOutput<T>>& parts);

}  // namespace assay::reference
