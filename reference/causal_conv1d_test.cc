#include "reference/causal_conv1d.h"

#include <gtest/gtest.h>

#include <vector>

#include "reference/testing/compare.h"
#include "reference/testing/gradient_check.h"

namespace assay::reference {
namespace {

using testing::Random;
const Numerics<double> kExact;

// The definition, element by element.
Tensor<double> by_definition(const CausalConv1dInputs<double>& in) {
  const Index batch = in.x.dim(0), seq_len = in.x.dim(1), channels = in.x.dim(2), taps = in.weight.dim(-1);
  Tensor<double> y(in.x.shape());
  for (Index b = 0; b < batch; ++b)
    for (Index t = 0; t < seq_len; ++t)
      for (Index c = 0; c < channels; ++c) {
        const auto document = [&](Index s) { return in.seq_idx.empty() ? 0 : in.seq_idx[b * seq_len + s]; };
        double p = in.bias ? (*in.bias)[c] : 0;
        for (Index j = 0; j < taps; ++j) {
          const Index from = t - (taps - 1) + j;
          const double w = in.weight[c * taps + j];
          if (from >= 0 && document(from) == document(t)) p += w * in.x(b, from, c);
          if (from < 0 && in.initial_state) p += w * (*in.initial_state)(b, c, from + taps - 1);
        }
        y(b, t, c) = document(t) < 0 ? 0 : in.silu ? silu(p) : p;
      }
  return y;
}

TEST(CausalConv1d, ByHand) {
  // One channel, taps (1, 10, 100), the newest last: y_t = 100 x_t + 10 x_{t-1} + x_{t-2} + 0.5.
  const Tensor<double> x({1, 3, 1}, {1, 2, 3}), weight({1, 1, 3}, {1, 10, 100}), bias({1}, {0.5}), state({1, 1, 2}, {7, 8});
  const auto plain = causal_conv1d_forward(kExact, {.x = x, .weight = weight, .bias = &bias, .silu = false});
  EXPECT_EQ(plain.y[0], 100.5);
  EXPECT_EQ(plain.y[1], 210.5);
  EXPECT_EQ(plain.y[2], 321.5);
  EXPECT_EQ(plain.final_state[0], 2);
  EXPECT_EQ(plain.final_state[1], 3);
  const auto continued = causal_conv1d_forward(kExact, {.x = x, .weight = weight, .bias = &bias, .initial_state = &state, .silu = false});
  EXPECT_EQ(continued.y[0], 187.5);  // 7 + 80 + 100
  EXPECT_EQ(continued.y[1], 218.5);
  // A new document begins at t = 2 and sees nothing of the old one; padding gives 0, not silu(bias).
  const std::vector<std::int32_t> documents = {-1, 4, 5};
  const auto packed = causal_conv1d_forward(kExact, {.x = x, .weight = weight, .bias = &bias, .seq_idx = documents, .silu = false});
  EXPECT_EQ(packed.y[0], 0);
  EXPECT_EQ(packed.y[1], 200.5);
  EXPECT_EQ(packed.y[2], 300.5);
  EXPECT_TRUE(packed.final_state.empty());
}

TEST(CausalConv1d, FinalStateOfAShortSequenceKeepsTheInitialOne) {
  const Tensor<double> x({1, 1, 1}, {5}), weight({1, 4}), state({1, 1, 3}, {1, 2, 3});
  const auto with = causal_conv1d_forward(kExact, {.x = x, .weight = weight, .initial_state = &state});
  EXPECT_EQ(with.final_state[0], 2);
  EXPECT_EQ(with.final_state[2], 5);
  const auto without = causal_conv1d_forward(kExact, {.x = x, .weight = weight});
  EXPECT_EQ(without.final_state[0], 0);
  EXPECT_EQ(without.final_state[2], 5);
}

class CausalConv1dProperty : public ::testing::TestWithParam<int> {
 protected:
  Random random{static_cast<std::uint64_t>(GetParam())};
  Index batch = random.integer(1, 3), seq_len = random.integer(1, 40), channels = random.integer(1, 21), taps = random.integer(1, 4);
  Tensor<double> x = random.tensor<double>({batch, seq_len, channels}), weight = random.tensor<double>({channels, taps});
  Tensor<double> bias = random.tensor<double>({channels}), state = random.tensor<double>({batch, channels, taps - 1});
  std::vector<std::int32_t> documents = random_documents();

  std::vector<std::int32_t> random_documents() {
    std::vector<std::int32_t> numbers;
    for (Index b = 0; b < batch; ++b)
      for (std::int32_t t = 0, n = -1; t < seq_len; ++t) numbers.push_back(n += random.integer(0, 5) == 0);
    return numbers;
  }
};
INSTANTIATE_TEST_SUITE_P(Sizes, CausalConv1dProperty, ::testing::Range(0, 20));

TEST_P(CausalConv1dProperty, IsItsDefinition) {
  for (const bool silu : {false, true}) {
    const CausalConv1dInputs<double> fresh{.x = x, .weight = weight, .bias = &bias, .silu = silu};
    EXPECT_LT(testing::relative_l2(causal_conv1d_forward(kExact, fresh).y, by_definition(fresh)), 1e-14);
    const CausalConv1dInputs<double> continued{.x = x, .weight = weight, .initial_state = &state, .silu = silu};
    EXPECT_LT(testing::relative_l2(causal_conv1d_forward(kExact, continued).y, by_definition(continued)), 1e-14);
    const CausalConv1dInputs<double> packed{.x = x, .weight = weight, .bias = &bias, .seq_idx = documents, .silu = silu};
    EXPECT_LT(testing::relative_l2(causal_conv1d_forward(kExact, packed).y, by_definition(packed)), 1e-14);
  }
}

// Tokens are computed together where their taps all read x: several blocks of channels, two rows of the batch, and documents
// of every length from 1 on, so that a document begins at every place of such a group.
TEST(CausalConv1d, TokensTogetherAreTokensAlone) {
  Random random(8);
  const Index channels = 519, seq_len = 67;
  const auto x = random.tensor<double>({2, seq_len, channels}), weight = random.tensor<double>({channels, 4}), bias = random.tensor<double>({channels}),
             state = random.tensor<double>({2, channels, 3});
  std::vector<std::int32_t> documents(static_cast<std::size_t>(2 * seq_len));
  for (Index t = 0, document = 0, left = 1; t < seq_len; ++t) {
    documents[t] = static_cast<std::int32_t>(document) - (document % 5 == 4 ? 100 : 0);  // some are padding
    documents[seq_len + t] = static_cast<std::int32_t>(t / 16);
    if (--left == 0) left = ++document + 1;
  }
  const CausalConv1dInputs<double> continued{.x = x, .weight = weight, .bias = &bias, .initial_state = &state};
  const CausalConv1dInputs<double> packed{.x = x, .weight = weight, .bias = &bias, .seq_idx = documents, .silu = false};
  for (const auto& in : {continued, packed}) {
    const Tensor<double> y = causal_conv1d_forward(kExact, in).y, want = by_definition(in);
    for (Index i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], want[i], 1e-14) << "token " << i / channels << ", channel " << i % channels;
  }
}

TEST_P(CausalConv1dProperty, TokenByTokenIsTheWhole) {
  const auto whole = causal_conv1d_forward(kExact, {.x = x, .weight = weight, .bias = &bias, .initial_state = &state});
  Tensor<double> cache({batch, channels, taps});  // one column more than the step needs, as the model keeps it
  for (Index b = 0; b < batch; ++b)
    for (Index c = 0; c < channels; ++c)
      for (Index i = 0; i < taps - 1; ++i) cache(b, c, i + 1) = state(b, c, i);
  for (Index t = 0; t < seq_len; ++t) {
    Tensor<double> now({batch, channels});
    for (Index b = 0; b < batch; ++b)
      for (Index c = 0; c < channels; ++c) now(b, c) = x(b, t, c);
    const auto y = causal_conv1d_update(kExact, now, cache, weight, &bias);
    for (Index b = 0; b < batch; ++b)
      for (Index c = 0; c < channels; ++c) EXPECT_EQ(y(b, c), whole.y(b, t, c));  // the same operations: the same bits
  }
  for (Index b = 0; b < batch; ++b)
    for (Index c = 0; c < channels; ++c)
      for (Index i = 0; i < taps - 1; ++i) EXPECT_EQ(cache(b, c, i + 1), whole.final_state(b, c, i));
}

TEST_P(CausalConv1dProperty, GradientsByFiniteDifferences) {
  const auto d_y = random.tensor<double>(x.shape()), d_final = random.tensor<double>(state.shape());
  for (const bool packed : {false, true}) {
    CausalConv1dInputs<double> in{.x = x, .weight = weight, .bias = &bias};
    if (packed) in.seq_idx = documents; else in.initial_state = &state;
    const auto loss = [&] {
      const auto out = causal_conv1d_forward(kExact, in);
      return testing::inner(out.y, d_y) + (packed ? 0 : testing::inner(out.final_state, d_final));
    };
    const auto grad = causal_conv1d_backward(kExact, in, d_y, packed ? nullptr : &d_final);
    std::vector<Index> boundaries;  // the first token of each document, and the one before
    for (std::size_t i = 1; i < documents.size(); ++i)
      if (documents[i] != documents[i - 1])
        for (const Index row : {static_cast<Index>(i) - 1, static_cast<Index>(i)}) boundaries.push_back(row * channels);
    boundaries.resize(std::min<std::size_t>(boundaries.size(), 6));
    testing::expect_gradient("x", x, grad.d_x, loss, boundaries);
    testing::expect_gradient("weight", weight, grad.d_weight, loss);
    testing::expect_gradient("bias", bias, grad.d_bias, loss);
    if (!packed && taps > 1) testing::expect_gradient("initial_state", state, grad.d_initial_state, loss);
    std::vector<testing::WithGradient> all = {{x, grad.d_x}, {weight, grad.d_weight}, {bias, grad.d_bias}};
    if (!packed) all.push_back({state, grad.d_initial_state});
    testing::expect_adjoint(all, loss);
  }
}

TEST(CausalConv1d, RoundsOnce) {
  Random random(3);
  auto x = random.tensor<float>({2, 9, 5}), weight = random.tensor<float>({5, 4}), d_y = random.tensor<float>({2, 9, 5});
  const CausalConv1dInputs<float> in{.x = x, .weight = weight};
  const Numerics<float> matched{.storage = Storage::bfloat16};
  const auto plain = causal_conv1d_forward<float>({}, in), rounded = causal_conv1d_forward(matched, in);
  const auto d_plain = causal_conv1d_backward<float>({}, in, d_y), d_rounded = causal_conv1d_backward(matched, in, d_y);
  for (Index i = 0; i < x.size(); ++i) {
    EXPECT_EQ(rounded.y[i], round_to_bfloat16(plain.y[i]));
    EXPECT_EQ(d_rounded.d_x[i], round_to_bfloat16(d_plain.d_x[i]));
  }
  for (Index i = 0; i < weight.size(); ++i) EXPECT_EQ(d_rounded.d_weight[i], round_to_bfloat16(d_plain.d_weight[i]));
}

TEST(CausalConv1d, EmptyAndWrong) {
  const Tensor<double> none({2, 0, 3}), weight({3, 4}), state({2, 3, 3}, 1.);
  const auto out = causal_conv1d_forward(kExact, {.x = none, .weight = weight, .initial_state = &state});
  EXPECT_TRUE(testing::same_bits(out.final_state, state));
  EXPECT_EQ(causal_conv1d_backward(kExact, {.x = none, .weight = weight}, none).d_weight[0], 0);
  const Tensor<double> x({2, 1, 3});
  const std::vector<std::int32_t> documents = {0, 0};
  try {
    causal_conv1d_forward(kExact, {.x = x, .weight = weight, .initial_state = &state, .seq_idx = documents});
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "causal_conv1d_forward: seq_idx and initial_state are both given; want one of them at most");
  }
}

}  // namespace
}  // namespace assay::reference
