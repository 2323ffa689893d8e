// The heap that a layer takes at its highest: never more than its inputs, outputs, saved tensors, gradients and twice its
// parameters.
#include <gtest/gtest.h>

#include "reference/parallel.h"
#include "reference/testing/layer_passes.h"
#include "reference/testing/peak_memory.h"

namespace assay::reference::testing {
namespace {

// Nano at a quarter of its width and tokens: the proportions of 512 tokens at full width.
LayerSizes quarter_of_nano() {
  LayerSizes sizes = nano_sizes(128);
  NemotronV3Config& c = sizes.config;
  c.vocab_size = 2048, c.hidden_size = 672, c.intermediate_size = 928;
  c.num_attention_heads = 8, c.mamba_num_heads = 16, c.n_groups = 2;
  c.moe_intermediate_size = 464, c.moe_shared_expert_intermediate_size = 928;
  return sizes;
}

template <class T>
void expect_bounded(const LayerCase& layer, bool training) {
  const std::size_t before = allocated_bytes();
  const LayerPass pass = layer.make();
  const auto& run = training ? pass.training : pass.forward;
  run();  // what a thread keeps for good is not the layer's
  const std::size_t given = allocated_bytes();
  reset_most_allocated_bytes();
  const Kept kept = run();
  const std::size_t most = most_allocated_bytes() - given, bound = allocated_bytes() - before;
  EXPECT_GT(most, 0u);
  EXPECT_LE(most, bound) << layer.name << (training ? ", forward and backward" : ", forward");
}

class Memory : public ::testing::TestWithParam<int> {};

template <class T>
void expect_all_bounded(int thread_count) {
  set_threads(thread_count);
  for (const LayerCase& layer : layer_cases<T>(quarter_of_nano()))
    for (const bool training : {false, true}) expect_bounded<T>(layer, training);
  set_threads(0);
}

TEST_P(Memory, OfNoLayerIsBeyondItsBoundInDouble) { expect_all_bounded<double>(GetParam()); }
TEST_P(Memory, OfNoLayerIsBeyondItsBoundInFloat) { expect_all_bounded<float>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Threads, Memory, ::testing::Values(1, 2));

TEST(PeakMemory, SeesWhatIsFreedAgain) {
  const std::size_t before = allocated_bytes();
  reset_most_allocated_bytes();
  { const std::vector<char> passing(1 << 20); }
  EXPECT_GE(most_allocated_bytes() - before, std::size_t{1} << 20);
  EXPECT_LT(allocated_bytes() - before, std::size_t{1} << 20);
}

}  // namespace
}  // namespace assay::reference::testing
