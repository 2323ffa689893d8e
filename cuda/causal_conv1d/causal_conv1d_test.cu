// The border, the plan, and every tiled variant against the naive one. Parity with the reference is the harness's job.
#include <gtest/gtest.h>

#include "cuda/causal_conv1d/causal_conv1d.cuh"
#include "cuda/common/testing.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;
using causal_conv1d::kTileRows;
using causal_conv1d::kTileTokens;
using causal_conv1d::Plan;
using causal_conv1d::Variant;

// ---- the border

TEST(CausalConv1dBorder, RefusesUnusableArguments) {
  const TestBuffer<float> x(12), w(8), y(12), state(12);
  const std::vector<std::int32_t> documents(6, 0);
  const CausalConv1dDims dims{.batch = 2, .seq_len = 3, .channels = 2, .taps = 4, .row_stride = 2};
  const CausalConv1dForward<float> tensors{.in = {.hidden_states = x.data(),
                                                  .weight = w.data(),
                                                  .bias = nullptr,
                                                  .initial_state = nullptr,
                                                  .seq_idx = nullptr,
                                                  .silu = true},
                                           .out = y.data(),
                                           .final_state = nullptr};
  const auto expect = [&](CausalConv1dDims d, CausalConv1dForward<float> t, const char* text) {
    expect_refusal([&] { causal_conv1d_forward(d, t, nullptr); }, text);
  };
  auto d = dims;
  expect((d.batch = -1, d), tensors, "batch = -1; want >= 0");
  d = dims;
  expect((d.seq_len = -2, d), tensors, "seq_len = -2; want >= 0");
  d = dims;
  expect((d.channels = 0, d), tensors, "channels = 0; want 1 .. 2^30");
  d = dims;
  expect((d.taps = 0, d), tensors, "taps = 0; want 1 .. 2^16");
  d = dims;
  expect((d.row_stride = 1, d), tensors, "row_stride = 1; want >= channels = 2");
  auto t = tensors;
  expect(dims, (t.out = nullptr, t), "out is null");
  t = tensors;
  t.in.seq_idx = documents.data();
  expect(dims, (t.final_state = state.data(), t), "seq_idx together with a state");
  t = tensors;
  t.final_state = state.data();
  d = dims;
  expect((d.taps = 1, d), t, "a state of taps - 1 = 0 columns");

  CausalConv1dBackward<float> b{};
  b.in = tensors.in;
  b.d_weight = w.data();
  b.d_row_stride = 1;
  expect_refusal([&] { causal_conv1d_backward(dims, b, nullptr); }, "d_row_stride = 1; want >= channels = 2");
  b.d_row_stride = 2;
  b.d_bias = w.data();
  expect_refusal([&] { causal_conv1d_backward(dims, b, nullptr); }, "bias and d_bias; want both or neither");
  b.d_bias = nullptr;
  b.d_initial_state = state.data();
  expect_refusal([&] { causal_conv1d_backward(dims, b, nullptr); }, "d_initial_state without initial_state");

  CausalConv1dUpdate<float> u{};
  expect_refusal([&] { causal_conv1d_update(dims, u, nullptr); }, "seq_len = 3; want 1");
  d = dims;
  d.seq_len = 1;
  expect_refusal([&] { causal_conv1d_update(d, u, nullptr); }, "state_len = 0; want >= taps - 1 = 3");
}

TEST(CausalConv1dBorder, NothingToDoWritesZeroWeightGradients) {
  for (const Method method : {Method::automatic, Method::naive}) {
    const TestBuffer<float> d_weight(8), d_bias(2), bias(2);
    const CausalConv1dDims dims{.batch = 0, .seq_len = 3, .channels = 2, .taps = 4, .row_stride = 2};
    CausalConv1dBackward<float> b{};
    b.in.bias = bias.data();
    b.d_weight = d_weight.data();
    b.d_bias = d_bias.data();
    b.d_row_stride = 2;
    causal_conv1d_forward(dims, CausalConv1dForward<float>{}, nullptr, method);
    causal_conv1d_backward(dims, b, nullptr, method);
    EXPECT_EQ(d_weight.download(), std::vector<float>(8, 0.0f));
    EXPECT_EQ(d_bias.download(), std::vector<float>(2, 0.0f));
  }
}

// ---- the plan

TEST(CausalConv1dPlan, VectorsWhereChannelsAndStridesAllow) {
  const auto variant = [](std::int64_t channels, std::int64_t stride, std::int64_t taps, std::size_t size) {
    return std::string(causal_conv1d_variant({2, 300, channels, taps, stride}, size));
  };
  EXPECT_EQ(variant(768, 1832, 4, 2), "tile_by_vector");
  EXPECT_EQ(variant(768, 1828, 4, 2), "tile_by_element");
  EXPECT_EQ(variant(768, 1828, 4, 4), "tile_by_vector");
  EXPECT_EQ(variant(767, 768, 2, 4), "tile_by_element");
  EXPECT_EQ(variant(768, 768, 5, 2), "naive");
  const CausalConv1dDims dims{2, 2 * kTileTokens + 1, 8, 4, 8};
  EXPECT_EQ(causal_conv1d::plan_for(dims, 8, Method::automatic).tiles, 3);
  EXPECT_EQ(causal_conv1d::plan_for({2, 0, 8, 4, 8}, 8, Method::automatic).tiles, 1);  // for the states
  EXPECT_EQ(causal_conv1d::plan_for(dims, 8, Method::naive).variant, Variant::naive);
  EXPECT_EQ(causal_conv1d_backward_workspace(dims), 2u * 3 * 8 * 5 * sizeof(float));
}

TEST(CausalConv1dPlan, UpdateVectorsAreTheStateOfAChannel) {
  const CausalConv1dDims dims{kTileRows + 1, 1, 5, 4, 5};
  EXPECT_STREQ(causal_conv1d_update_variant(dims, 4), "tile_by_vector");
  EXPECT_STREQ(causal_conv1d_update_variant(dims, 3), "tile_by_element");
  EXPECT_STREQ(causal_conv1d_update_variant({1, 1, 5, 3, 5}, 4), "tile_by_element");
  EXPECT_STREQ(causal_conv1d_update_variant({1, 1, 5, 9, 5}, 8), "naive");
  EXPECT_EQ(causal_conv1d::plan_update(dims, 4, true, Method::automatic).tiles, 2);
}

// ---- tiled against naive

// Documents of 1, 2, 3, ... tokens, every fifth one padding.
std::vector<std::int32_t> documents(std::int64_t tokens) {
  std::vector<std::int32_t> result;
  for (std::int32_t id = 0; static_cast<std::int64_t>(result.size()) < tokens; ++id) {
    result.insert(result.end(), static_cast<std::size_t>(id + 1), id % 5 == 4 ? -1 : id);
  }
  result.resize(static_cast<std::size_t>(tokens));
  return result;
}

template <class T>
struct Problem {
  CausalConv1dDims dims;
  bool bias = true, silu = true, states = false, packed = false;

  struct Results {
    std::vector<T> out, final_state, d_x, d_weight, d_bias, d_initial_state;
  };

  Results run(Variant variant) const {
    const auto count = [](std::int64_t n) { return static_cast<std::size_t>(n); };
    const std::size_t tokens = count(dims.batch * dims.seq_len), channels = count(dims.channels);
    const std::size_t size = tokens * channels, state_size = count(dims.batch * dims.channels * dims.past());
    const TestBuffer<T> x(test_values<T>(tokens * count(dims.row_stride), 1)), d_out(test_values<T>(size, 2));
    const TestBuffer<T> weight(test_values<T>(channels * count(dims.taps), 3)), b(test_values<T>(channels, 4));
    const TestBuffer<T> initial(test_values<T>(state_size, 5)), d_final(test_values<T>(state_size, 6));
    const TestBuffer<std::int32_t> seq_idx(documents(dims.batch * dims.seq_len));
    const TestBuffer<T> out(size), final_state(state_size), d_x(size), d_weight(channels * count(dims.taps)),
        d_bias(channels), d_initial(state_size);
    const TestBuffer<float> workspace(causal_conv1d_backward_workspace(dims) / sizeof(float));

    Plan plan = causal_conv1d::plan_for(dims, 1, Method::automatic);
    plan.variant = variant;
    const CausalConv1dInputs<T> in{.hidden_states = x.data(),
                                   .weight = weight.data(),
                                   .bias = bias ? b.data() : nullptr,
                                   .initial_state = states ? initial.data() : nullptr,
                                   .seq_idx = packed ? seq_idx.data() : nullptr,
                                   .silu = silu};
    causal_conv1d::launch_forward(
        plan, dims,
        CausalConv1dForward<T>{.in = in, .out = out.data(), .final_state = states ? final_state.data() : nullptr},
        nullptr);
    causal_conv1d::launch_backward(plan, dims,
                                   CausalConv1dBackward<T>{.in = in,
                                                           .d_out = d_out.data(),
                                                           .d_final_state = states ? d_final.data() : nullptr,
                                                           .d_hidden_states = d_x.data(),
                                                           .d_row_stride = dims.channels,
                                                           .d_weight = d_weight.data(),
                                                           .d_bias = bias ? d_bias.data() : nullptr,
                                                           .d_initial_state = states ? d_initial.data() : nullptr,
                                                           .workspace = workspace.data()},
                                   nullptr);
    return {out.download(),
            states ? final_state.download() : std::vector<T>(),
            d_x.download(),
            d_weight.download(),
            bias ? d_bias.download() : std::vector<T>(),
            states ? d_initial.download() : std::vector<T>()};
  }
};

template <class T>
void expect_close(const Problem<T>& problem, Variant variant) {
  const auto& d = problem.dims;
  SCOPED_TRACE(testing::Message() << d.batch << " x " << d.seq_len << " x " << d.channels << ", " << d.taps << " taps"
                                  << (problem.packed ? ", packed" : "") << (problem.states ? ", states" : "") << ", "
                                  << name(variant));
  const auto got = problem.run(variant), want = problem.run(Variant::naive);
  EXPECT_EQ(distance(got.out, want.out), 0);  // the same operations in the same order
  EXPECT_EQ(distance(got.final_state, want.final_state), 0);
  EXPECT_LE(distance(got.d_x, want.d_x), tolerance<T>());
  EXPECT_LE(distance(got.d_initial_state, want.d_initial_state), tolerance<T>());
  // Sums over all tokens, magnitudes below 2 each: every token adds 2^-24 of what has gathered, at most.
  const double tokens = static_cast<double>(d.batch * d.seq_len);
  const double sums = tolerance<T>() + 2 * 0x1p-24 * tokens * std::sqrt(tokens);
  EXPECT_LE(distance(got.d_weight, want.d_weight), sums);
  EXPECT_LE(distance(got.d_bias, want.d_bias), sums);
}

template <class T>
class CausalConv1dVariants : public testing::Test {};
using Types = testing::Types<float, bf16>;
TYPED_TEST_SUITE(CausalConv1dVariants, Types);

TYPED_TEST(CausalConv1dVariants, AgreeWithTheNaiveOne) {
  using T = TypeParam;
  for (const std::int64_t taps : {1, 2, 3, 4}) {
    for (const std::int64_t seq_len : {0, 1, 2, 3, 5, 127, 128, 129, 131, 260}) {
      const CausalConv1dDims dims{2, seq_len, 8, taps, 16};
      for (const Variant variant : {Variant::tile_by_element, Variant::tile_by_vector}) {
        expect_close(Problem<T>{.dims = dims, .packed = true}, variant);
        expect_close(Problem<T>{.dims = dims, .states = taps > 1}, variant);
      }
    }
    expect_close(Problem<T>{.dims = {3, 40, 7, taps, 9}, .bias = false}, Variant::tile_by_element);
    expect_close(Problem<T>{.dims = {1, 140, 264, taps, 264}, .silu = false}, Variant::tile_by_vector);
  }
}

TYPED_TEST(CausalConv1dVariants, UpdateAgreesWithTheNaiveOneAndMovesTheState) {
  using T = TypeParam;
  for (const std::int64_t batch : {0, 1, 3, 16, 17}) {
    for (const std::int64_t taps : {1, 2, 3, 4}) {
      for (const std::int64_t state_len : {taps - 1, taps, taps + 2}) {
        const CausalConv1dDims dims{batch, 1, 13, taps, 15};
        const auto cells = static_cast<std::size_t>(batch * 13);
        const std::vector<T> before = test_values<T>(cells * static_cast<std::size_t>(state_len), 1);
        const TestBuffer<T> x(test_values<T>(static_cast<std::size_t>(batch) * 15, 2));
        const TestBuffer<T> weight(test_values<T>(static_cast<std::size_t>(13 * taps), 3)), bias(test_values<T>(13, 4));
        const auto run = [&](Variant variant) {
          const TestBuffer<T> state(before), out(cells);
          Plan plan = causal_conv1d::plan_update(dims, state_len, true, Method::automatic);
          plan.variant = variant;
          causal_conv1d::launch_update(plan, dims,
                                       CausalConv1dUpdate<T>{.hidden_states = x.data(),
                                                             .state = state.data(),
                                                             .state_len = state_len,
                                                             .weight = weight.data(),
                                                             .bias = bias.data(),
                                                             .silu = true,
                                                             .out = out.data()},
                                       nullptr);
          return std::pair(out.download(), state.download());
        };
        const auto want = run(Variant::naive);
        for (const Variant variant : {Variant::tile_by_element, Variant::tile_by_vector}) {
          if (variant == Variant::tile_by_vector && (taps != 4 || state_len != 4)) continue;
          SCOPED_TRACE(testing::Message() << batch << " rows, " << taps << " taps, " << state_len << " columns");
          const auto got = run(variant);
          EXPECT_EQ(distance(got.first, want.first), 0);
          EXPECT_EQ(distance(got.second, want.second), 0);
        }
      }
    }
  }
}

TYPED_TEST(CausalConv1dVariants, RepeatBitForBitUnderSchedulesOfOneArithmetic) {
  const Problem<TypeParam> problem{.dims = {2, 300, 24, 4, 24}, .states = true};
  expect_repeats_under_schedules([&] { return problem.run(Variant::tile_by_vector); },
                                 [&](const auto& results, const auto& first) {
                                   EXPECT_EQ(distance(results.out, first.out), 0);
                                   EXPECT_EQ(distance(results.d_x, first.d_x), 0);
                                   EXPECT_EQ(distance(results.d_weight, first.d_weight), 0);
                                   EXPECT_EQ(distance(results.d_bias, first.d_bias), 0);
                                 });
}

}  // namespace
}  // namespace assay::gpu
