// What the tiled kernels move, against the compulsory bytes: every input read once, every output written once. The
// convolution of a mixer of 8 heads of 64, 1 group, state 128: 512 + 2 * 128 channels; 1,024 tokens, 4 taps.
#include <gtest/gtest.h>

#include <string>

#include "cuda/causal_conv1d/causal_conv1d.cuh"
#include "cuda/common/testing.h"
#include "cuda/simt/counters.h"

namespace assay::gpu {
namespace {

constexpr std::int64_t kChannels = 512 + 2 * 128, kTokens = 1024, kTaps = 4;
constexpr std::int64_t kRowStride = 512 + kChannels + 8;  // x is a slice of in_proj's output: z, x B C, dt

std::uint64_t bytes(const simt::Counters& c) { return c.global_read.bytes + c.global_write.bytes; }

template <class T>
class CausalConv1dTraffic : public testing::Test {
 protected:
  void SetUp() override { simt::set_counting(true); }
  void TearDown() override { simt::set_counting(false); }

  TestBuffer<T> filled(std::int64_t size) const {
    return TestBuffer<T>(test_values<T>(static_cast<std::size_t>(size), 1));
  }
  TestBuffer<T> unwritten(std::int64_t size) const { return TestBuffer<T>(static_cast<std::size_t>(size)); }
  // In rows' worth of channels.
  double rows(const simt::Counters& c) const { return static_cast<double>(bytes(c)) / (kChannels * sizeof(T)); }

  static constexpr CausalConv1dDims kDims{1, kTokens, kChannels, kTaps, kRowStride};
  const TestBuffer<T> x = filled(kTokens * kRowStride), weight = filled(kChannels * kTaps), bias = filled(kChannels);

  CausalConv1dInputs<T> inputs() const {
    return {.hidden_states = x.data(),
            .weight = weight.data(),
            .bias = bias.data(),
            .initial_state = nullptr,
            .seq_idx = nullptr,
            .silu = true};
  }
};
using Types = testing::Types<float, __nv_bfloat16>;
TYPED_TEST_SUITE(CausalConv1dTraffic, Types);

TYPED_TEST(CausalConv1dTraffic, ForwardIsWithinFivePercent) {
  const auto out = this->unwritten(kTokens * kChannels);
  ASSERT_STREQ(causal_conv1d_variant(this->kDims, sizeof(TypeParam)), "tile_by_vector");
  causal_conv1d_forward(this->kDims,
                        CausalConv1dForward<TypeParam>{.in = this->inputs(), .out = out.data(), .final_state = nullptr},
                        nullptr);
  const simt::Counters& c = simt::last_counters();
  ASSERT_TRUE(c.sees_plain_accesses);
  const double compulsory = 2 * kTokens + kTaps + 1;
  // A tile reads the weights, the bias and, but for the first, three rows before it.
  const double tiles = kTokens / causal_conv1d::kTileTokens;
  EXPECT_EQ(this->rows(c), 2 * kTokens + tiles * (kTaps + 1) + (tiles - 1) * causal_conv1d::kPast);
  EXPECT_LE(this->rows(c), 1.05 * compulsory);
  // Sectors of 32 bytes: nothing but whole ones.
  EXPECT_LE(static_cast<double>(32 * (c.global_read.units + c.global_write.units)),
            1.05 * static_cast<double>(bytes(c)));
}

TYPED_TEST(CausalConv1dTraffic, BackwardIsWhatItsHeaderSays) {
  using T = TypeParam;
  const auto d_out = this->filled(kTokens * kChannels), d_x = this->unwritten(kTokens * kChannels),
             d_weight = this->unwritten(kChannels * kTaps), d_bias = this->unwritten(kChannels);
  const TestBuffer<float> workspace(causal_conv1d_backward_workspace(this->kDims) / sizeof(float));
  causal_conv1d_backward(this->kDims,
                         CausalConv1dBackward<T>{.in = this->inputs(),
                                                 .d_out = d_out.data(),
                                                 .d_final_state = nullptr,
                                                 .d_hidden_states = d_x.data(),
                                                 .d_row_stride = kChannels,
                                                 .d_weight = d_weight.data(),
                                                 .d_bias = d_bias.data(),
                                                 .d_initial_state = nullptr,
                                                 .workspace = workspace.data()},
                         nullptr);
  // Weights and bias, and their gradients, are taps + 1 rows. A tile reads three rows of x before it, three of x and of
  // d_out after it, and leaves float sums that are read once more.
  const double tiles = kTokens / causal_conv1d::kTileTokens, weights = kTaps + 1, floats = sizeof(float) / sizeof(T);
  const double compulsory = 3 * kTokens + 2 * weights;
  const double moved = this->rows(simt::sum_of_counters());
  EXPECT_EQ(moved, 3 * kTokens + (tiles - 1) * 3 * causal_conv1d::kPast + tiles * weights +
                       2 * tiles * weights * floats + weights);
  EXPECT_LE(moved, (std::is_same_v<T, float> ? 1.06 : 1.09) * compulsory);
}

TYPED_TEST(CausalConv1dTraffic, UpdateIsWithinFivePercent) {
  using T = TypeParam;
  for (const std::int64_t batch : {1, 8, 64}) {
    const CausalConv1dDims dims{batch, 1, kChannels, kTaps, kRowStride};
    const auto state = this->filled(batch * kChannels * kTaps), out = this->unwritten(batch * kChannels);
    ASSERT_STREQ(causal_conv1d_update_variant(dims, kTaps), "tile_by_vector");
    causal_conv1d_update(dims,
                         CausalConv1dUpdate<T>{.hidden_states = this->x.data(),
                                               .state = state.data(),
                                               .state_len = kTaps,
                                               .weight = this->weight.data(),
                                               .bias = this->bias.data(),
                                               .silu = true,
                                               .out = out.data()},
                         nullptr);
    const double compulsory = static_cast<double>(batch * (2 * kTaps + 2) + kTaps + 1);
    EXPECT_LE(this->rows(simt::last_counters()), 1.05 * compulsory) << batch;
  }
}

}  // namespace
}  // namespace assay::gpu
