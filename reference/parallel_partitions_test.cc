#include "reference/parallel_partitions.h"

#include <gtest/gtest.h>

#include "reference/linear.h"
#include "reference/testing/layer_check.h"

namespace assay::reference {
namespace {

using testing::max_difference;
using testing::Random;

constexpr double kExact = 1e-12;

void expect_equal(const Parameters<double>& found, const Parameters<double>& wanted) {
  ASSERT_EQ(found.entries().size(), wanted.entries().size());
  for (const auto& [name, tensor] : wanted.entries())
    EXPECT_LE(max_difference(found[name], tensor.value), kExact) << name;
}

TEST(ContextParallelTokens, HeadAndTailChunks) {
  const ContextParallelTokens tokens = context_parallel_tokens({0, 8, 12}, 2);
  EXPECT_EQ(tokens.positions[0], (std::vector<Index>{0, 1, 6, 7, 8, 11}));
  EXPECT_EQ(tokens.positions[1], (std::vector<Index>{2, 3, 4, 5, 9, 10}));
  EXPECT_THROW(context_parallel_tokens({0, 6}, 2), std::invalid_argument);
  Random random(1);
  const Tensor<double> whole = random.tensor<double>({2, 12, 3});
  EXPECT_EQ(max_difference(join_tokens(shard_tokens(whole, tokens), tokens), whole), 0);
}

TEST(ContextParallelAttention, EqualsOneRank) {
  Random random(2);
  const AttentionDims dims{4, 2, 5};
  for (const Index ranks : {1, 2, 3}) {
    for (const std::vector<Index>& cu : {std::vector<Index>{0, 24}, {0, 12, 24}}) {
      const Index batch = cu.size() == 2 ? 2 : 1, width = 6;
      Parameters<double> p;
      for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
        const Index out = (name[0] == 'q' ? dims.num_attention_heads : dims.num_key_value_heads) * dims.head_dim;
        p.set(std::string(name) + ".weight", random.tensor<double>({out, width}));
        p.set(std::string(name) + ".bias", random.tensor<double>({out}));
      }
      p.set("o_proj.weight", random.tensor<double>({width, dims.num_attention_heads * dims.head_dim}));
      const Tensor<double> u = random.tensor<double>({batch, 24, width}, -2, 2),
                           d_out = random.tensor<double>(u.shape());
      const Numerics<double> num;
      const auto mask = batch == 2 ? AttentionMask<double>::causal() : AttentionMask<double>::packed(cu, {}, 24);
      AttentionLayerSaved<double> saved;
      const Tensor<double> wanted = attention_layer_forward<double>(num, dims, p, u, mask, &saved);
      Parameters<double> d_wanted, d_found;
      const Tensor<double> d_u = attention_layer_backward<double>(num, dims, p, u, mask, saved, d_out, d_wanted);

      const ContextParallelTokens tokens = context_parallel_tokens(cu, ranks);
      const auto shards = shard_tokens(u, tokens);
      ContextParallelAttentionSaved<double> parallel;
      EXPECT_LE(
          max_difference(
              join_tokens(context_parallel_attention_forward<double>(num, dims, p, shards, tokens, &parallel), tokens),
              wanted),
          kExact);
      EXPECT_LE(
          max_difference(join_tokens(context_parallel_attention_backward<double>(num, dims, p, shards, tokens, parallel,
                                                                                 shard_tokens(d_out, tokens), d_found),
                                     tokens),
                         d_u),
          kExact);
      expect_equal(d_found, d_wanted);
    }
  }
}

TEST(ExpertParallel, EqualsOneRank) {
  Random random(3);
  const Index experts = 6, width = 5, inner = 4, k = 3, tokens = 13;
  Parameters<double> p;
  p.set("gate_and_up_projs", random.tensor<double>({experts, width, inner}));
  p.set("down_projs", random.tensor<double>({experts, inner, width}));
  p.set("gate_up_proj_bias", random.tensor<double>({experts, inner}));
  p.set("down_proj_bias", random.tensor<double>({experts, width}));
  const Tensor<double> latent = random.tensor<double>({tokens, width}),
                       weights = random.tensor<double>({tokens, k}, 0, 1);
  const Tensor<double> d_acc = random.tensor<double>({tokens, width});
  Tensor<Index> indices({tokens, k});
  for (Index t = 0; t < tokens; ++t)
    for (Index j = 0; j < k; ++j) indices(t, j) = (t * t + 2 * j) % experts;  // expert 5 is rarely chosen
  const Numerics<double> num;
  const ExpertPermutation all = permute_by_expert(indices, nullptr, experts, 0, experts);
  Tensor<double> h;
  const Tensor<double> wanted = experts_forward<double>(num, false, p, all, latent, weights, h);
  Parameters<double> d_wanted;
  const auto d = experts_backward<double>(num, false, p, all, latent, weights, h, d_acc, d_wanted);

  for (const Index ranks : {1, 2, 3, 6}) {
    const auto split = [&](const auto& t) {  // ranks hold different numbers of tokens
      using T = std::decay_t<decltype(t[0])>;
      std::vector<Tensor<T>> parts;
      for (Index r = 0; r < ranks; ++r) {
        const Index begin = r == 0 ? 0 : tokens - (ranks - r), end = r + 1 == ranks ? tokens : tokens - (ranks - r - 1);
        parts.push_back(
            Tensor<T>({end - begin, t.dim(1)}, std::vector<T>(t.data() + begin * t.dim(1), t.data() + end * t.dim(1))));
      }
      return parts;
    };
    const auto joined = [](const auto& parts, const Tensor<double>& like) {
      Tensor<double> whole(like.shape());
      double* next = whole.data();
      for (const auto& part : parts) next = std::copy_n(part.data(), part.size(), next);
      return whole;
    };
    EXPECT_LE(
        max_difference(
            joined(expert_parallel_forward<double>(num, p, split(latent), split(weights), split(indices)), wanted),
            wanted),
        kExact);
    Parameters<double> d_found;
    const auto parts =
        expert_parallel_backward<double>(num, p, split(latent), split(weights), split(indices), split(d_acc), d_found);
    std::vector<Tensor<double>> d_latent, d_weights;
    for (const auto& part : parts) d_latent.push_back(part.latent), d_weights.push_back(part.weights);
    EXPECT_LE(max_difference(joined(d_latent, d.latent), d.latent), kExact);
    EXPECT_LE(max_difference(joined(d_weights, d.weights), d.weights), kExact);
    expect_equal(d_found, d_wanted);
  }
}

TEST(TensorParallel, MlpAndHeadEqualOneRank) {
  Random random(4);
  const Index width = 5, inner = 12, tokens = 7;
  Parameters<double> p;
  p.set("up_proj.weight", random.tensor<double>({inner, width}));
  p.set("up_proj.bias", random.tensor<double>({inner}));
  p.set("down_proj.weight", random.tensor<double>({width, inner}));
  p.set("down_proj.bias", random.tensor<double>({width}));
  const Tensor<double> u = random.tensor<double>({tokens, width}), d_out = random.tensor<double>({tokens, width});
  const Numerics<double> num;
  MlpSaved<double> saved;
  const Tensor<double> wanted = mlp_forward<double>(num, p, u, &saved);
  Parameters<double> d_wanted;
  const Tensor<double> d_u = mlp_backward<double>(num, p, u, saved, d_out, d_wanted);
  const Tensor<double> head = random.tensor<double>({8, width}), logits = linear_forward(num, u, head);
  for (const Index ranks : {1, 2, 4}) {
    Tensor<double> sum({tokens, width}), d_sum({tokens, width});
    Tensor<double> side_by_side({tokens, 8});
    for (Index r = 0; r < ranks; ++r) {
      const Parameters<double> shard = tensor_parallel_mlp<double>(p, r, ranks);
      MlpSaved<double> s;
      const Tensor<double> out = mlp_forward<double>(num, shard, u, &s);
      Parameters<double> d_shard;
      const Tensor<double> d = mlp_backward<double>(num, shard, u, s, d_out, d_shard);
      for (Index i = 0; i < sum.size(); ++i) {
        sum[i] += out[i];
        d_sum[i] += d[i];
      }
      // A rank's gradient is its slice of the whole one.
      expect_equal(d_shard, tensor_parallel_mlp<double>(d_wanted, r, ranks));
      const Tensor<double> columns = linear_forward(num, u, tensor_parallel_rows(head, r, ranks));
      for (Index t = 0; t < tokens; ++t) std::copy_n(&columns(t, 0), 8 / ranks, &side_by_side(t, r * 8 / ranks));
    }
    EXPECT_LE(max_difference(sum, wanted), kExact);
    EXPECT_LE(max_difference(d_sum, d_u), kExact);
    EXPECT_LE(max_difference(side_by_side, logits), kExact);
  }
  EXPECT_THROW(tensor_parallel_mlp<double>(p, 0, 5), std::invalid_argument);
}

}  // namespace
}  // namespace assay::reference
