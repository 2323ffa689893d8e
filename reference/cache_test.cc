#include "reference/cache.h"

#include <gtest/gtest.h>

#include "reference/testing/layer_check.h"

namespace assay::reference {
namespace {

using testing::Random;

NemotronV3Config small_config() {
  NemotronV3Config config;
  config.layers_block_type = parse_pattern("-M*");
  config.mamba_num_heads = 2;
  config.mamba_head_dim = 3;
  config.n_groups = 1;
  config.ssm_state_size = 4;
  return config;
}

TEST(Cache, BeginsEmpty) {
  const auto cache = make_cache<double>(small_config(), 2);
  EXPECT_FALSE(cache.has_previous_state);
  EXPECT_EQ(cache.conv_states[0].rank(), 0);
  EXPECT_EQ(cache.conv_states[1].shape(), (Shape{2, 14, 4}));
  EXPECT_EQ(cache.ssm_states[1].shape(), (Shape{2, 2, 3, 4}));
  EXPECT_EQ(testing::rms(cache.ssm_states[1]), 0);
  EXPECT_EQ(cache.upstream_sequence_length(), 0);
}

TEST(Cache, SequenceLengthIsThatOfTheFirstAttentionLayer) {
  auto cache = make_cache<double>(small_config(), 2);
  cache.tokens = 7;
  EXPECT_EQ(cache.upstream_sequence_length(), 0);
  cache.key_values[2].keys = Tensor<double>({2, 1, 7, 3});
  EXPECT_EQ(cache.upstream_sequence_length(), 7);
}

TEST(Cache, ReorderPicksRows) {
  Random random(1);
  auto cache = make_cache<double>(small_config(), 3);
  cache.conv_states[1] = random.tensor<double>({3, 14, 4});
  cache.ssm_states[1] = random.tensor<double>({3, 2, 3, 4});
  cache.key_values[2] = {random.tensor<double>({3, 1, 5, 2}), random.tensor<double>({3, 1, 5, 2})};
  const auto before = cache;
  reorder(cache, {2, 2, 0});
  for (Index i = 0; i < 14 * 4; ++i) {
    EXPECT_EQ(cache.conv_states[1][i], before.conv_states[1][2 * 56 + i]);
    EXPECT_EQ(cache.conv_states[1][2 * 56 + i], before.conv_states[1][i]);
  }
  for (Index i = 0; i < 10; ++i) EXPECT_EQ(cache.key_values[2].values[10 + i], before.key_values[2].values[20 + i]);
  EXPECT_THROW(reorder(cache, {3}), std::invalid_argument);
}

}  // namespace
}  // namespace assay::reference
