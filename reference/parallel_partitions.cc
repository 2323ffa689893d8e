#include "reference/parallel_partitions.h"

#include <algorithm>

#include "reference/check.h"
#include "reference/projection.h"

namespace assay::reference {
namespace {

template <class T>
void add_to(Tensor<T>& sum, const Tensor<T>& term) {
  if (sum.rank() == 0) sum = Tensor<T>(term.shape());
  for (Index i = 0; i < sum.size(); ++i) sum[i] += term[i];
}

// Query tokens of one rank against key tokens of another: causal by global position, inside a document.
template <class T>
AttentionMask<T> mask_between(const ContextParallelTokens& tokens, Index query_rank, Index key_rank) {
  const std::vector<Index>&q = tokens.positions[query_rank], &k = tokens.positions[key_rank];
  const Index queries = static_cast<Index>(q.size()), keys = static_cast<Index>(k.size());
  Tensor<std::uint8_t> allowed({1, 1, queries, keys});
  for (Index i = 0; i < queries; ++i)
    for (Index j = 0; j < keys; ++j)
      allowed(0, 0, i, j) = k[j] <= q[i] && tokens.document[k[j]] == tokens.document[q[i]];
  return AttentionMask<T>::allowed(std::move(allowed));
}

template <class T>
Tensor<T> heads_of(const Numerics<T>& num, const ParameterScope<T>& p, const Tensor<T>& u, Index heads,
                   Index head_dim) {
  return projection_forward(num, p, u, heads * head_dim).reshaped({u.dim(0), u.dim(1), heads, head_dim});
}

template <class T>
Tensor<T> rows_joined(const std::vector<Tensor<T>>& parts) {
  Index rows = 0;
  for (const Tensor<T>& part : parts) rows += part.dim(0);
  Tensor<T> whole({rows, parts.at(0).dim(1)});
  T* next = whole.data();
  for (const Tensor<T>& part : parts) next = std::copy_n(part.data(), part.size(), next);
  return whole;
}

template <class T>
std::vector<Tensor<T>> rows_split(const Tensor<T>& whole, const std::vector<Index>& rows) {
  std::vector<Tensor<T>> parts;
  const T* next = whole.data();
  for (Index n : rows) {
    Tensor<T> part({n, whole.dim(1)});
    std::copy_n(next, part.size(), part.data());
    next += part.size();
    parts.push_back(std::move(part));
  }
  return parts;
}

template <class T>
std::vector<Index> row_counts(const std::vector<Tensor<T>>& parts) {
  std::vector<Index> rows;
  for (const Tensor<T>& part : parts) rows.push_back(part.dim(0));
  return rows;
}

struct Range {
  Index begin, end;
};
Range share(const char* what, Index total, Index rank, Index ranks) {
  require(ranks >= 1 && rank >= 0 && rank < ranks && total % ranks == 0, "partition: ", total, " ", what, " over ",
          ranks, " ranks; want a multiple, and 0 <= rank < ranks");
  return {rank * total / ranks, (rank + 1) * total / ranks};
}

}  // namespace

ContextParallelTokens context_parallel_tokens(const std::vector<Index>& cu_seqlens, Index ranks) {
  require(ranks >= 1 && !cu_seqlens.empty() && cu_seqlens.front() == 0, "context_parallel_tokens: ranks = ", ranks,
          "; want >= 1, and cu_seqlens that begin with 0");
  ContextParallelTokens tokens;
  tokens.positions.resize(ranks);
  tokens.document.resize(cu_seqlens.back());
  for (std::size_t m = 0; m + 1 < cu_seqlens.size(); ++m) {
    const Index begin = cu_seqlens[m], length = cu_seqlens[m + 1] - begin, chunk = length / (2 * ranks);
    require(length >= 0 && length % (2 * ranks) == 0, "context_parallel_tokens: document ", m, " of ", length,
            " tokens; want a multiple of ", 2 * ranks);
    std::fill_n(tokens.document.begin() + begin, length, static_cast<Index>(m));
    for (Index r = 0; r < ranks; ++r)
      for (Index j = 0; j < 2 * chunk; ++j)
        tokens.positions[r].push_back(begin + (j < chunk ? r * chunk + j : (2 * ranks - 1 - r) * chunk + (j - chunk)));
  }
  return tokens;
}

template <class T>
std::vector<Tensor<T>> shard_tokens(const Tensor<T>& whole, const ContextParallelTokens& tokens) {
  const Index batch = whole.dim(0), seq_len = whole.dim(1), each = whole.size() / std::max<Index>(1, batch * seq_len);
  require(seq_len == static_cast<Index>(tokens.document.size()), "shard_tokens: ", seq_len, " tokens; want ",
          tokens.document.size());
  std::vector<Tensor<T>> shards;
  for (const std::vector<Index>& positions : tokens.positions) {
    Shape shape = whole.shape();
    shape[1] = static_cast<Index>(positions.size());
    Tensor<T> shard(shape);
    T* next = shard.data();
    for (Index b = 0; b < batch; ++b)
      for (Index t : positions) next = std::copy_n(whole.data() + (b * seq_len + t) * each, each, next);
    shards.push_back(std::move(shard));
  }
  return shards;
}

template <class T>
Tensor<T> join_tokens(const std::vector<Tensor<T>>& shards, const ContextParallelTokens& tokens) {
  Shape shape = shards.at(0).shape();
  const Index batch = shape[0], seq_len = static_cast<Index>(tokens.document.size());
  const Index each = shards[0].size() / std::max<Index>(1, batch * shape[1]);
  shape[1] = seq_len;
  Tensor<T> whole(shape);
  for (std::size_t r = 0; r < shards.size(); ++r) {
    const T* next = shards[r].data();
    for (Index b = 0; b < batch; ++b)
      for (Index t : tokens.positions[r]) {
        std::copy_n(next, each, whole.data() + (b * seq_len + t) * each);
        next += each;
      }
  }
  return whole;
}

template <class T>
std::vector<Tensor<T>> context_parallel_attention_forward(const Numerics<T>& num, const AttentionDims& dims,
                                                          const ParameterScope<T>& p,
                                                          const std::vector<Tensor<T>>& hidden_states,
                                                          const ContextParallelTokens& tokens,
                                                          ContextParallelAttentionSaved<T>* saved) {
  const Index ranks = static_cast<Index>(hidden_states.size());
  ContextParallelAttentionSaved<T> s;
  for (const Tensor<T>& u : hidden_states)
    s.ranks.push_back({heads_of(num, p.scope("q_proj."), u, dims.num_attention_heads, dims.head_dim),
                       heads_of(num, p.scope("k_proj."), u, dims.num_key_value_heads, dims.head_dim),
                       heads_of(num, p.scope("v_proj."), u, dims.num_key_value_heads, dims.head_dim),
                       {}});
  std::vector<Tensor<T>> out;
  for (Index r = 0; r < ranks; ++r) {
    std::vector<AttentionOutput<T>> parts;
    for (Index other = 0; other < ranks; ++other)
      parts.push_back(attention_forward(num.unrounded(), s.ranks[r].q, s.ranks[other].k, s.ranks[other].v,
                                        mask_between<T>(tokens, r, other)));
    s.ranks[r].attention = merge_attention(num, parts);
    Shape concat = hidden_states[r].shape();
    concat.back() = dims.num_attention_heads * dims.head_dim;
    out.push_back(
        projection_forward(num, p.scope("o_proj."), s.ranks[r].attention.o.reshaped(concat), hidden_states[r].dim(-1)));
  }
  if (saved) *saved = std::move(s);
  return out;
}

template <class T>
std::vector<Tensor<T>> context_parallel_attention_backward(
    const Numerics<T>& num, const AttentionDims& dims, const ParameterScope<T>& p,
    const std::vector<Tensor<T>>& hidden_states, const ContextParallelTokens& tokens,
    const ContextParallelAttentionSaved<T>& saved, const std::vector<Tensor<T>>& d_out, const GradientScope<T>& d_p) {
  const Index ranks = static_cast<Index>(hidden_states.size());
  const auto concat = [&](Index r, Index heads) {
    Shape shape = hidden_states[r].shape();
    shape.back() = heads * dims.head_dim;
    return shape;
  };
  std::vector<AttentionGradients<T>> d(ranks);
  for (Index r = 0; r < ranks; ++r) {
    const AttentionLayerSaved<T>& own = saved.ranks[r];
    const Tensor<T> d_o =
        projection_backward(num, p, "o_proj.", own.attention.o.reshaped(concat(r, dims.num_attention_heads)), d_out[r],
                            d_p)
            .reshaped(own.q.shape());
    for (Index other = 0; other < ranks; ++other) {
      const AttentionGradients<T> part =
          attention_backward(num.unrounded(), own.q, saved.ranks[other].k, saved.ranks[other].v,
                             mask_between<T>(tokens, r, other), own.attention, d_o);
      add_to(d[r].q, part.q);
      add_to(d[other].k, part.k);
      add_to(d[other].v, part.v);
    }
  }
  std::vector<Tensor<T>> d_hidden_states;
  for (Index r = 0; r < ranks; ++r) {
    for (Tensor<T>* gradient : {&d[r].q, &d[r].k, &d[r].v}) num.store(gradient->span());
    const Index kv = dims.num_key_value_heads;
    Tensor<T> d_u = projection_backward(num, p, "v_proj.", hidden_states[r], d[r].v.reshaped(concat(r, kv)), d_p);
    add_to(d_u, projection_backward(num, p, "k_proj.", hidden_states[r], d[r].k.reshaped(concat(r, kv)), d_p));
    add_to(d_u, projection_backward(num, p, "q_proj.", hidden_states[r],
                                    d[r].q.reshaped(concat(r, dims.num_attention_heads)), d_p));
    num.store(d_u.span());
    d_hidden_states.push_back(std::move(d_u));
  }
  return d_hidden_states;
}

template <class T>
std::vector<Tensor<T>> expert_parallel_forward(const Numerics<T>& num, const ParameterScope<T>& experts,
                                               const std::vector<Tensor<T>>& latent,
                                               const std::vector<Tensor<T>>& weights,
                                               const std::vector<Tensor<Index>>& indices) {
  const Index total = experts["gate_and_up_projs"].dim(0), ranks = static_cast<Index>(latent.size());
  const Tensor<T> all_latent = rows_joined(latent), all_weights = rows_joined(weights);
  const Tensor<Index> all_indices = rows_joined(indices);
  Tensor<T> sum;
  for (Index r = 0; r < ranks; ++r) {
    const Range own = share("experts", total, r, ranks);
    Tensor<T> h;
    add_to(sum, experts_forward(num, false, experts, permute_by_expert(all_indices, nullptr, total, own.begin, own.end),
                                all_latent, all_weights, h));
  }
  num.store(sum.span());
  return rows_split(sum, row_counts(latent));
}

template <class T>
std::vector<ExpertGradients<T>> expert_parallel_backward(const Numerics<T>& num, const ParameterScope<T>& experts,
                                                         const std::vector<Tensor<T>>& latent,
                                                         const std::vector<Tensor<T>>& weights,
                                                         const std::vector<Tensor<Index>>& indices,
                                                         const std::vector<Tensor<T>>& d_acc,
                                                         const GradientScope<T>& d_experts) {
  const Index total = experts["gate_and_up_projs"].dim(0), ranks = static_cast<Index>(latent.size());
  const Tensor<T> all_latent = rows_joined(latent), all_weights = rows_joined(weights), all_d = rows_joined(d_acc);
  const Tensor<Index> all_indices = rows_joined(indices);
  ExpertGradients<T> sum;
  for (Index r = 0; r < ranks; ++r) {
    const Range own = share("experts", total, r, ranks);
    const ExpertPermutation permutation = permute_by_expert(all_indices, nullptr, total, own.begin, own.end);
    Tensor<T> h;
    experts_forward(num, false, experts, permutation, all_latent, all_weights, h);
    const ExpertGradients<T> part =
        experts_backward(num, false, experts, permutation, all_latent, all_weights, h, all_d, d_experts);
    add_to(sum.latent, part.latent);
    add_to(sum.weights, part.weights);
  }
  const std::vector<Tensor<T>> d_latent = rows_split(sum.latent, row_counts(latent)),
                               d_weights = rows_split(sum.weights, row_counts(weights));
  std::vector<ExpertGradients<T>> result;
  for (Index r = 0; r < ranks; ++r) result.push_back({d_latent[r], d_weights[r]});
  return result;
}

template <class T>
Tensor<T> tensor_parallel_rows(const Tensor<T>& weight, Index rank, Index ranks) {
  const Range own = share("rows", weight.dim(0), rank, ranks);
  const Index each = weight.size() / std::max<Index>(1, weight.dim(0));
  Shape shape = weight.shape();
  shape[0] = own.end - own.begin;
  Tensor<T> rows(shape);
  std::copy_n(weight.data() + own.begin * each, rows.size(), rows.data());
  return rows;
}

template <class T>
Parameters<T> tensor_parallel_mlp(const ParameterScope<T>& mlp, Index rank, Index ranks) {
  const Tensor<T>& down = mlp["down_proj.weight"];
  const Range own = share("columns", down.dim(1), rank, ranks);
  Tensor<T> columns({down.dim(0), own.end - own.begin});
  for (Index i = 0; i < down.dim(0); ++i)
    std::copy_n(down.data() + i * down.dim(1) + own.begin, own.end - own.begin, columns.data() + i * columns.dim(1));
  Parameters<T> p;
  p.set("up_proj.weight", tensor_parallel_rows(mlp["up_proj.weight"], rank, ranks));
  p.set("down_proj.weight", std::move(columns));
  if (const Tensor<T>* bias = mlp.find("up_proj.bias")) p.set("up_proj.bias", tensor_parallel_rows(*bias, rank, ranks));
  if (const Tensor<T>* bias = mlp.find("down_proj.bias"); bias && rank == 0) p.set("down_proj.bias", *bias);
  return p;
}

#define ASSAY_INSTANTIATE(T)                                                                                      \
  template std::vector<Tensor<T>> shard_tokens(const Tensor<T>&, const ContextParallelTokens&);                   \
  template Tensor<T> join_tokens(const std::vector<Tensor<T>>&, const ContextParallelTokens&);                    \
  template std::vector<Tensor<T>> context_parallel_attention_forward(                                             \
      const Numerics<T>&, const AttentionDims&, const ParameterScope<T>&, const std::vector<Tensor<T>>&,          \
      const ContextParallelTokens&, ContextParallelAttentionSaved<T>*);                                           \
  template std::vector<Tensor<T>> context_parallel_attention_backward(                                            \
      const Numerics<T>&, const AttentionDims&, const ParameterScope<T>&, const std::vector<Tensor<T>>&,          \
      const ContextParallelTokens&, const ContextParallelAttentionSaved<T>&, const std::vector<Tensor<T>>&,       \
      const GradientScope<T>&);                                                                                   \
  template std::vector<Tensor<T>> expert_parallel_forward(                                                        \
      const Numerics<T>&, const ParameterScope<T>&, const std::vector<Tensor<T>>&, const std::vector<Tensor<T>>&, \
      const std::vector<Tensor<Index>>&);                                                                         \
  template std::vector<ExpertGradients<T>> expert_parallel_backward(                                              \
      const Numerics<T>&, const ParameterScope<T>&, const std::vector<Tensor<T>>&, const std::vector<Tensor<T>>&, \
      const std::vector<Tensor<Index>>&, const std::vector<Tensor<T>>&, const GradientScope<T>&);                 \
  template Tensor<T> tensor_parallel_rows(const Tensor<T>&, Index, Index);                                        \
  template Parameters<T> tensor_parallel_mlp(const ParameterScope<T>&, Index, Index);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
