#include "reference/attention_layer.h"

#include <algorithm>
#include <optional>

#include "reference/projection.h"
#include "reference/row_pieces.h"

namespace assay::reference {
namespace {

// [B, S, D] or [T, D] -> [B, S, heads, head_dim] of one projection.
template <class T>
Tensor<T> heads_of(const Numerics<T>& num, const ParameterScope<T>& p, const Tensor<T>& hidden_states, Index heads,
                   Index head_dim) {
  const Index batch = hidden_states.rank() == 2 ? 1 : hidden_states.dim(0), seq_len = hidden_states.dim(-2);
  return projection_forward(num, p, hidden_states, heads * head_dim).reshaped({batch, seq_len, heads, head_dim});
}

void check_hidden_states(const char* function, const Shape& shape) {
  if (shape.size() != 2 && shape.size() != 3)
    throw std::invalid_argument(std::string(function) + ": hidden_states " + to_string(shape) +
                                "; want [B, S, D] or [T, D]");
}

// [B, S, heads, head_dim] appended to [B, heads, tokens, head_dim] along tokens.
template <class T>
Tensor<T> appended(const Tensor<T>& past, const Tensor<T>& fresh) {
  const Index batch = fresh.dim(0), count = fresh.dim(1), heads = fresh.dim(2), width = fresh.dim(3);
  const Index before = past.rank() == 0 ? 0 : past.dim(2);
  if (past.rank() != 0 && past.shape() != Shape{batch, heads, before, width})
    throw std::invalid_argument("attention_layer_cached: cache " + to_string(past.shape()) +
                                " does not take tokens of " + to_string(fresh.shape()));
  Tensor<T> all({batch, heads, before + count, width});
  for (Index b = 0; b < batch; ++b)
    for (Index h = 0; h < heads; ++h) {
      T* head = all.data() + (b * heads + h) * (before + count) * width;
      std::copy_n(past.data() + (b * heads + h) * before * width, before * width, head);
      for (Index t = 0; t < count; ++t) std::copy_n(&fresh(b, t, h, 0), width, head + (before + t) * width);
    }
  return all;
}

}  // namespace

AttentionDims attention_dims(const NemotronV3Config& config) {
  return {config.num_attention_heads, config.num_key_value_heads, config.head_dim};
}

template <class T>
Tensor<T> attention_layer_forward(const Numerics<T>& num, const AttentionDims& dims, const ParameterScope<T>& p,
                                  const Tensor<T>& hidden_states, const AttentionMask<T>& mask,
                                  AttentionLayerSaved<T>* saved) {
  check_hidden_states("attention_layer_forward", hidden_states.shape());
  AttentionLayerSaved<T> s;
  s.q = heads_of(num, p.scope("q_proj."), hidden_states, dims.num_attention_heads, dims.head_dim);
  s.k = heads_of(num, p.scope("k_proj."), hidden_states, dims.num_key_value_heads, dims.head_dim);
  s.v = heads_of(num, p.scope("v_proj."), hidden_states, dims.num_key_value_heads, dims.head_dim);
  s.attention = attention_forward(num, s.q, s.k, s.v, mask);
  Shape concat = hidden_states.shape();
  concat.back() = dims.num_attention_heads * dims.head_dim;
  Tensor<T> heads = std::move(s.attention.o).reshaped(concat);
  Tensor<T> out = projection_forward(num, p.scope("o_proj."), heads, hidden_states.dim(-1));
  s.attention.o = std::move(heads).reshaped(s.q.shape());
  if (saved) *saved = std::move(s);
  return out;
}

template <class T>
Tensor<T> attention_layer_backward(const Numerics<T>& num, const AttentionDims& dims, const ParameterScope<T>& p,
                                   const Tensor<T>& hidden_states, const AttentionMask<T>& mask,
                                   const AttentionLayerSaved<T>& saved, const Tensor<T>& d_out,
                                   const GradientScope<T>& d_p) {
  Shape concat = hidden_states.shape();
  concat.back() = dims.num_attention_heads * dims.head_dim;
  Shape concat_kv = hidden_states.shape();
  concat_kv.back() = dims.num_key_value_heads * dims.head_dim;
  const Tensor<T> d_o = projection_backward(num, p, "o_proj.", saved.attention.o.reshaped(concat), d_out, d_p);
  AttentionGradients<T> d =
      attention_backward(num, saved.q, saved.k, saved.v, mask, saved.attention, d_o.reshaped(saved.q.shape()));
  const Tensor<T> d_from_q =
      projection_backward(num, p, "q_proj.", hidden_states, std::move(d.q).reshaped(concat), d_p);
  const Tensor<T> d_from_k =
      projection_backward(num, p, "k_proj.", hidden_states, std::move(d.k).reshaped(concat_kv), d_p);
  Tensor<T> d_hidden_states =
      projection_backward(num, p, "v_proj.", hidden_states, std::move(d.v).reshaped(concat_kv), d_p);
  parallel_for(d_hidden_states.size(), rows_per_piece(1), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      d_hidden_states[i] = num.store(num.store(d_hidden_states[i] + d_from_k[i]) + d_from_q[i]);
  });
  return d_hidden_states;
}

template <class T>
Tensor<T> attention_layer_cached(const Numerics<T>& num, const AttentionDims& dims, const ParameterScope<T>& p,
                                 const Tensor<T>& hidden_states, KeyValueCache<T>& cache, ContinuedPrefill continued,
                                 const AttentionMask<T>* mask) {
  if (hidden_states.rank() != 3)
    throw std::invalid_argument("attention_layer_cached: hidden_states " + to_string(hidden_states.shape()) +
                                "; want [B, a, D]");
  const Index before = cache.length();
  const Tensor<T> q = heads_of(num, p.scope("q_proj."), hidden_states, dims.num_attention_heads, dims.head_dim);
  cache.keys =
      appended(cache.keys, heads_of(num, p.scope("k_proj."), hidden_states, dims.num_key_value_heads, dims.head_dim));
  cache.values =
      appended(cache.values, heads_of(num, p.scope("v_proj."), hidden_states, dims.num_key_value_heads, dims.head_dim));
  const bool sees_all = continued == ContinuedPrefill::sees_all_keys && before > 0;
  const AttentionMask<T> own = sees_all ? AttentionMask<T>::everything() : AttentionMask<T>::causal(before);
  AttentionOutput<T> out =
      attention_forward(num, q, cache.keys, cache.values, mask ? *mask : own, HeadLayout::heads_first);
  const Shape concat = {hidden_states.dim(0), hidden_states.dim(1), dims.num_attention_heads * dims.head_dim};
  return projection_forward(num, p.scope("o_proj."), std::move(out.o).reshaped(concat), hidden_states.dim(-1));
}

#define ASSAY_INSTANTIATE(T)                                                                                         \
  template Tensor<T> attention_layer_forward(const Numerics<T>&, const AttentionDims&, const ParameterScope<T>&,     \
                                             const Tensor<T>&, const AttentionMask<T>&, AttentionLayerSaved<T>*);    \
  template Tensor<T> attention_layer_backward(                                                                       \
      const Numerics<T>&, const AttentionDims&, const ParameterScope<T>&, const Tensor<T>&, const AttentionMask<T>&, \
      const AttentionLayerSaved<T>&, const Tensor<T>&, const GradientScope<T>&);                                     \
  template Tensor<T> attention_layer_cached(const Numerics<T>&, const AttentionDims&, const ParameterScope<T>&,      \
                                            const Tensor<T>&, KeyValueCache<T>&, ContinuedPrefill,                   \
                                            const AttentionMask<T>*);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
