// What the block adds to its norm and its mixer, which have their own tests: the sum, the path around the mixer, and
// the border. The harness judges the whole.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "cuda/mamba2_block/mamba2_block.h"
#include "cuda/mamba2_mixer/testing.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

template <class T>
float value(T x) {
  return static_cast<float>(x);
}

// One training step of a block: the mixer of `layer`, `scale` times its out_proj.
template <class T, class R>
struct Step {
  std::vector<T> hidden_states, norm_weight, input_normed, mixed, d_hidden_states, d_norm_weight, d_out_proj;
  std::vector<R> out, d_out;

  explicit Step(const Layer<T>& layer, float scale = 1) {
    const Mamba2MixerDims& d = layer.d;
    auto v = layer.values();
    for (T& w : v.out_proj) w = T(scale * value(w));
    const std::size_t tokens = count(d.tokens());
    hidden_states = v.hidden_states;
    norm_weight = test_values<T>(count(d.hidden_size), 30);
    d_out = test_values<R>(v.hidden_states.size(), 31);
    const TestBuffer<T> u(v.hidden_states), weight(norm_weight), in_proj(v.in_proj), conv(v.conv), norm(v.norm),
        out_proj(v.out_proj), normed(v.hidden_states.size()), mix(v.hidden_states.size()),
        projected(tokens * count(d.projected())), convolved(tokens * count(d.conv_channels())),
        scanned(tokens * count(d.inner())), gated(tokens * count(d.inner()));
    const TestBuffer<R> y(v.hidden_states.size()), d_y(d_out);
    const TestBuffer<float> dt_bias(v.dt_bias), A_log(v.A_log), D(v.D), A(v.A_log.size()), rstd(tokens),
        group_rstd(tokens * count(d.groups));
    const Mamba2MixerParams<T> params{.in_proj_weight = in_proj.data(),
                                      .in_proj_bias = nullptr,
                                      .conv_weight = conv.data(),
                                      .conv_bias = nullptr,
                                      .dt_bias = dt_bias.data(),
                                      .A_log = A_log.data(),
                                      .D = D.data(),
                                      .norm_weight = norm.data(),
                                      .out_proj_weight = out_proj.data(),
                                      .out_proj_bias = nullptr,
                                      .eps = 1e-5f};
    const Mamba2BlockTaps<T> taps{.input_normed = normed.data(),
                                  .rstd = rstd.data(),
                                  .mixed = mix.data(),
                                  .mixer = {.projected = projected.data(),
                                            .A = A.data(),
                                            .convolved = convolved.data(),
                                            .scanned = scanned.data(),
                                            .normed = gated.data(),
                                            .rstd = group_rstd.data()}};
    const TestBuffer<char> workspace(mamba2_block_workspace(d, sizeof(T)));
    mamba2_block_train_forward(d, params,
                               Mamba2BlockForward<T, R>{.hidden_states = u.data(),
                                                        .norm_weight = weight.data(),
                                                        .mask = nullptr,
                                                        .seq_idx = nullptr,
                                                        .out = y.data(),
                                                        .taps = taps,
                                                        .workspace = workspace.data()},
                               nullptr);
    const TestBuffer<T> d_u(v.hidden_states.size()), d_weight(norm_weight.size()), d_in_proj(v.in_proj.size()),
        d_conv(v.conv.size()), d_norm(v.norm.size()), d_out_weight(v.out_proj.size());
    const TestBuffer<float> d_dt_bias(v.dt_bias.size()), d_A_log(v.A_log.size()), d_D(v.D.size());
    const TestBuffer<char> backward_workspace(mamba2_block_backward_workspace(d, sizeof(T)));
    mamba2_block_train_backward(d, params,
                                Mamba2BlockBackward<T, R>{.hidden_states = u.data(),
                                                          .norm_weight = weight.data(),
                                                          .mask = nullptr,
                                                          .seq_idx = nullptr,
                                                          .saved = taps,
                                                          .d_out = d_y.data(),
                                                          .d_hidden_states = d_u.data(),
                                                          .d_norm_weight = d_weight.data(),
                                                          .d_mixer = {.in_proj_weight = d_in_proj.data(),
                                                                      .in_proj_bias = nullptr,
                                                                      .conv_weight = d_conv.data(),
                                                                      .conv_bias = nullptr,
                                                                      .dt_bias = d_dt_bias.data(),
                                                                      .A_log = d_A_log.data(),
                                                                      .D = d_D.data(),
                                                                      .norm_weight = d_norm.data(),
                                                                      .out_proj_weight = d_out_weight.data(),
                                                                      .out_proj_bias = nullptr},
                                                          .workspace = backward_workspace.data()},
                                nullptr);
    input_normed = normed.download(), mixed = mix.download(), out = y.download();
    d_hidden_states = d_u.download(), d_norm_weight = d_weight.download(), d_out_proj = d_out_weight.download();
  }
};

template <class Types>
class Mamba2Block : public testing::Test {};
template <class T_, class R_>
struct Types {
  using T = T_;
  using R = R_;
};
using All = testing::Types<Types<float, float>, Types<bf16, bf16>, Types<bf16, float>>;
TYPED_TEST_SUITE(Mamba2Block, All);

TYPED_TEST(Mamba2Block, GivesTheSumRoundedOnce) {
  using T = typename TypeParam::T;
  using R = typename TypeParam::R;
  const Step<T, R> step({.d = kTiny, .biases = false});
  float largest = 0;
  for (std::size_t i = 0; i < step.out.size(); ++i) {
    ASSERT_EQ(value(step.out[i]), value(R(value(step.hidden_states[i]) + value(step.mixed[i])))) << i;
    largest = std::max(largest, std::abs(value(step.mixed[i])));
  }
  EXPECT_GT(largest, 0.1f);  // the mixer has its say
}

TYPED_TEST(Mamba2Block, NormsWhatTheMixerReads) {
  using T = typename TypeParam::T;
  const Step<T, typename TypeParam::R> step({.d = kTiny, .biases = false});
  const std::size_t width = count(kTiny.hidden_size);
  for (std::size_t first = 0; first < step.hidden_states.size(); first += width) {
    double squares = 0;
    for (std::size_t i = first; i < first + width; ++i)
      squares += static_cast<double>(value(step.hidden_states[i])) * value(step.hidden_states[i]);
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(1e-5f));
    for (std::size_t i = 0; i < width; ++i) {
      const double want = value(step.norm_weight[i]) * value(step.hidden_states[first + i]) * rstd;
      // Half an ulp of T, and 2 sqrt(32) float roundings of a sum of 32 squares, a root and two products.
      const double limit = (std::is_same_v<T, bf16> ? 0x1p-8 : 0x1p-24) + 16 * 0x1p-24;
      ASSERT_NEAR(value(step.input_normed[first + i]), want, limit * std::abs(want));
    }
  }
}

// A mixer that gives nothing: the stream passes, and so does its gradient, rounded to the model's dtype.
TYPED_TEST(Mamba2Block, PassesTheStreamAroundTheMixer) {
  using T = typename TypeParam::T;
  const Step<T, typename TypeParam::R> step({.d = kTiny, .biases = false}, 0);
  for (std::size_t i = 0; i < step.out.size(); ++i) {
    ASSERT_EQ(value(step.out[i]), value(step.hidden_states[i])) << i;
    ASSERT_EQ(value(step.d_hidden_states[i]), value(T(value(step.d_out[i])))) << i;
  }
  for (const T d : step.d_norm_weight) ASSERT_EQ(value(d), 0);
  EXPECT_TRUE(std::any_of(step.d_out_proj.begin(), step.d_out_proj.end(), [](T d) { return value(d) != 0; }));
}

TYPED_TEST(Mamba2Block, OfNoTokens) {
  using T = typename TypeParam::T;
  const Step<T, typename TypeParam::R> step({.d = with_tokens(kTiny, 0), .biases = false});
  EXPECT_TRUE(step.out.empty());
  for (const T d : step.d_norm_weight) ASSERT_EQ(value(d), 0);
}

TEST(Mamba2BlockBorder, RefusesWhatItCannotUse) {
  const TestBuffer<float> some(4096);
  float* const p = some.data();
  const Mamba2MixerParams<float> params{p, p, p, p, p, p, p, p, p, p, 1e-5f};
  Mamba2BlockForward<float, float> forward{
      .hidden_states = p, .norm_weight = nullptr, .mask = nullptr, .seq_idx = nullptr, .out = p, .workspace = p};
  expect_refusal([&] { mamba2_block_train_forward(kTiny, params, forward, nullptr); }, "norm_weight or workspace");
  forward.norm_weight = p, forward.out = nullptr;
  expect_refusal([&] { mamba2_block_train_forward(kTiny, params, forward, nullptr); }, "hidden_states or out is null");
  Mamba2MixerDims bad = kTiny;
  bad.groups = 3;
  expect_refusal([&] { mamba2_block_train_forward(bad, params, forward, nullptr); }, "groups = 3");
  const Mamba2BlockBackward<float, float> backward{.hidden_states = p,
                                                   .norm_weight = p,
                                                   .mask = nullptr,
                                                   .seq_idx = nullptr,
                                                   .saved = {.input_normed = p},
                                                   .d_out = p,
                                                   .d_hidden_states = p,
                                                   .d_norm_weight = p,
                                                   .d_mixer = {p, p, p, p, p, p, p, p, p, p},
                                                   .workspace = p};
  expect_refusal([&] { mamba2_block_train_backward(kTiny, params, backward, nullptr); }, "saved.rstd is null");
}

}  // namespace
}  // namespace assay::gpu
