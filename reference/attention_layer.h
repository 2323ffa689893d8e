// The attention layer: four projections around attention.h.
//
//   q, k, v = u Wq^T + bq, u Wk^T + bk, u Wv^T + bv      out = concat_heads(attention(q, k, v)) Wo^T + bo
//
// Parameters: {q,k,v,o}_proj.weight, {q,k,v,o}_proj.bias (optional). Hidden states are [B, S, D], or [T, D] for a
// packed stream.
#pragma once

#include "reference/attention.h"
#include "reference/config.h"
#include "reference/parameters.h"

namespace assay::reference {

struct AttentionDims {
  Index num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
};
AttentionDims attention_dims(const NemotronV3Config& config);

template <class T>
struct AttentionLayerSaved {
  Tensor<T> q, k, v;  // [B, S, heads, head_dim]
  AttentionOutput<T> attention;
};

// Training path: no cache. `saved`, if given, receives what the backward pass needs.
template <class T>
Tensor<T> attention_layer_forward(const Numerics<T>& num, const AttentionDims& dims, const ParameterScope<T>& p,
                                  const Tensor<T>& hidden_states, const AttentionMask<T>& mask,
                                  AttentionLayerSaved<T>* saved = nullptr);

// Returns the gradient of hidden_states; those of the parameters go to d_p.
template <class T>
Tensor<T> attention_layer_backward(const Numerics<T>& num, const AttentionDims& dims, const ParameterScope<T>& p,
                                   const Tensor<T>& hidden_states, const AttentionMask<T>& mask,
                                   const AttentionLayerSaved<T>& saved, const Tensor<T>& d_out,
                                   const GradientScope<T>& d_p);

// Keys and values of all tokens so far. Empty before the first.
template <class T>
struct KeyValueCache {
  Tensor<T> keys, values;  // [B, Hkv, tokens, head_dim]
  Index length() const { return keys.rank() == 0 ? 0 : keys.dim(2); }
};

// What several new queries see of a cache that already holds tokens, when no mask is given.
enum class ContinuedPrefill {
  causal,         // key j <= query i + tokens before: the language model
  sees_all_keys,  // upstream: also later tokens of the same chunk
};

// Prefill, decode and everything between: appends the keys and values of hidden_states [B, a, D] to the cache and
// attends to all of it. A mask is used as it is; without one the rule above holds, and a fresh cache is always causal.
template <class T>
Tensor<T> attention_layer_cached(const Numerics<T>& num, const AttentionDims& dims, const ParameterScope<T>& p,
                                 const Tensor<T>& hidden_states, KeyValueCache<T>& cache,
                                 ContinuedPrefill continued = ContinuedPrefill::causal,
                                 const AttentionMask<T>* mask = nullptr);

}  // namespace assay::reference
