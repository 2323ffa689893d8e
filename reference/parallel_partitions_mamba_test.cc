#include "reference/parallel_partitions_mamba.h"

#include <gtest/gtest.h>

#include "reference/mamba2_mixer.h"
#include "reference/testing/layer_check.h"
#include "reference/testing/small_model.h"

namespace assay::reference {
namespace {

using testing::max_difference;
using testing::Random;

TEST(MambaRankSlice, GroupsAreSplitOrShared) {
  NemotronV3Config config = testing::small_config("M");
  config.mamba_num_heads = 8;
  config.n_groups = 2;
  const auto slice = mamba_rank_slice(config, 1, 2);
  EXPECT_EQ(slice.first_head, 4);
  EXPECT_EQ(slice.first_group, 1);
  const auto shared = mamba_rank_slice(config, 3, 4);
  EXPECT_EQ(shared.first_head, 6);
  EXPECT_EQ(shared.heads, 2);
  EXPECT_EQ(shared.first_group, 1);
  EXPECT_EQ(shared.groups, 1);
  EXPECT_THROW(mamba_rank_slice(config, 0, 3), std::invalid_argument);
}

TEST(ContextParallelMamba, EqualsOneRank) {
  Random random(1);
  for (const Index groups : {1, 2, 4})
    for (const Index ranks : {1, 2, 4})
      for (const std::vector<Index>& cu : {std::vector<Index>{0, 16}, {0, 8, 24}}) {
        NemotronV3Config config = testing::small_config("M");
        config.n_groups = groups;
        const Parameters<double> all = testing::small_parameters(config, random);
        Parameters<double> p;
        const std::string prefix = "model.layers.0.mixer.";
        for (const auto& [name, parameter] : all.entries())
          if (name.starts_with(prefix)) p.set(name.substr(prefix.size()), parameter.value);
        const bool packed = cu.size() > 2;
        const Index batch = packed ? 1 : 2, seq_len = cu.back();
        const Tensor<double> u = random.tensor<double>({batch, seq_len, config.hidden_size}),
                             d_out = random.tensor<double>(u.shape());
        SeqIdx seq_idx({1, seq_len});
        for (Index t = 0; t < seq_len; ++t) seq_idx[t] = t >= cu[1];
        const Numerics<double> num;
        Mamba2MixerSaved<double> saved;
        const Tensor<double> wanted =
            mamba2_mixer_forward<double>(num, config, p, u, nullptr, packed ? &seq_idx : nullptr, &saved);
        Parameters<double> d_wanted, d_found;
        const Tensor<double> d_u = mamba2_mixer_backward<double>(num, config, p, u, nullptr,
                                                                 packed ? &seq_idx : nullptr, saved, d_out, d_wanted);

        const ContextParallelTokens tokens = context_parallel_tokens(cu, ranks);
        const auto shards = shard_tokens(u, tokens);
        ContextParallelMambaSaved<double> parallel;
        EXPECT_LE(
            max_difference(
                join_tokens(context_parallel_mamba_forward<double>(num, config, p, shards, tokens, &parallel), tokens),
                wanted),
            1e-12);
        EXPECT_LE(
            max_difference(join_tokens(context_parallel_mamba_backward<double>(num, config, p, shards, tokens, parallel,
                                                                               shard_tokens(d_out, tokens), d_found),
                                       tokens),
                           d_u),
            1e-12);
        ASSERT_EQ(d_found.entries().size(), d_wanted.entries().size());
        for (const auto& [name, gradient] : d_wanted.entries())
          EXPECT_LE(max_difference(d_found[name], gradient.value), 1e-11) << name;
      }
}

}  // namespace
}  // namespace assay::reference
