// The limits, tried from both sides: float32 arithmetic in another order stays inside them, and small mistakes do not.
#include "harness/cases/conv_limits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "harness/cases/family.h"
#include "harness/core/judge.h"

namespace assay::harness {
namespace {

struct Trial {
  Call call;
  std::vector<Expectation> want;

  explicit Trial(const std::string& line) {
    const Case c = parse_case(line);
    const Family& f = family(c.family);
    f.check(c);
    call = f.calls(c).back();
    if (HostTensor* state = const_cast<HostTensor*>(call.find("conv_state"))) state->before = state->bytes;
    want = f.expect(call, assay_contract{}, c.fill == "integer");
  }
  const Expectation& expectation(const std::string& tensor) const {
    for (const Expectation& e : want)
      if (e.tensor == tensor) return e;
    throw std::out_of_range(tensor);
  }
};

std::int64_t beyond(const Expectation& want, const std::vector<double>& got) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < want.size(); ++i) count += !element_passes(want, i, got[i]);
  return count;
}

float silu(float p) { return p / (1 + std::exp(-p)); }
float silu_derivative(float p) {
  const float sigma = 1 / (1 + std::exp(-p));
  return sigma * (1 + p * (1 - sigma));
}

// float32 without fma, newest tap first, bias last; `tap_error`: relative, of one tap.
std::vector<double> backwards(const Trial& t, float tap_error) {
  const HostTensor &x = t.call.tensor("input.hidden_states"), &w = t.call.tensor("param.weight"),
                   &bias = t.call.tensor("param.bias");
  const std::int64_t seq_len = x.shape[1], channels = x.shape[2], taps = w.shape[1];
  std::vector<double> y;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::int64_t c = i % channels, token = i / channels % seq_len;
    float p = 0;
    for (std::int64_t j = taps - 1; j >= 0 && token - (taps - 1) + j >= 0; --j) {
      const float factor = j == 1 ? 1 + tap_error : 1;
      p = p + factor * static_cast<float>(w.at(c * taps + j)) * static_cast<float>(x.at(i - (taps - 1 - j) * channels));
    }
    y.push_back(round_to(x.dtype, silu(p + static_cast<float>(bias.at(c)))));
  }
  return y;
}

std::string line(const std::string& path, const std::string& dtype, const std::string& fill,
                 const char* context = "none", const char* activation = "silu") {
  return "causal_conv1d/" + path + " batch=2 seq_len=150 channels=12 taps=4 activation=" + activation +
         " bias=yes context=" + context + " layout=compact dtype=" + dtype + " fill=" + fill + " seed=5";
}

TEST(ConvLimits, AnotherOrderIsInsideAndATapCutToHalfItsDigitsIsNot) {
  for (const char* dtype : {"f32", "bf16"})
    for (const char* fill : {"model", "outlier", "edge"}) {
      const Trial t(line("forward", dtype, fill));
      const Expectation& want = t.expectation("output.hidden_states");
      EXPECT_EQ(beyond(want, backwards(t, 0)), 0) << dtype << " " << fill;
      EXPECT_GT(beyond(want, backwards(t, std::string(dtype) == "f32" ? 0x1p-12f : 0x1p-5f)), 20)
          << dtype << " " << fill;
    }
}

TEST(ConvLimits, WeightGradientsInAnyOrderAreInsideAndOneTokenLessIsNot) {
  for (const char* fill : {"model", "edge"}) {
    const Trial t(line("backward", "f32", fill));
    const HostTensor &x = t.call.tensor("input.hidden_states"), &w = t.call.tensor("param.weight"),
                     &bias = t.call.tensor("param.bias"), &d_y = t.call.tensor("grad.output.hidden_states");
    const std::int64_t channels = 12, taps = 4, seq_len = 150;
    const auto sums = [&](std::int64_t dropped) {
      std::vector<float> d_weight(channels * taps), d_bias(channels);
      for (std::int64_t i = x.size() - 1; i >= 0; --i) {  // last token first
        if (i / channels == dropped) continue;
        const std::int64_t c = i % channels, token = i / channels % seq_len;
        float p = static_cast<float>(bias.at(c));
        const auto read = [&](std::int64_t j) {
          return token - (taps - 1) + j < 0 ? 0 : static_cast<float>(x.at(i - (taps - 1 - j) * channels));
        };
        for (std::int64_t j = 0; j < taps; ++j) p = p + static_cast<float>(w.at(c * taps + j)) * read(j);
        const float dp = static_cast<float>(d_y.at(i)) * silu_derivative(p);
        for (std::int64_t j = 0; j < taps; ++j) d_weight[c * taps + j] += dp * read(j);
        d_bias[c] += dp;
      }
      return std::pair(std::vector<double>(d_weight.begin(), d_weight.end()),
                       std::vector<double>(d_bias.begin(), d_bias.end()));
    };
    const auto all = sums(-1), less = sums(101);
    EXPECT_EQ(beyond(t.expectation("grad.weight"), all.first), 0) << fill;
    EXPECT_EQ(beyond(t.expectation("grad.bias"), all.second), 0) << fill;
    if (std::string(fill) == "edge")
      continue;  // far from 0 the derivative may err by |p| units, more than a token's share
    EXPECT_GT(beyond(t.expectation("grad.weight"), less.first), channels);
    EXPECT_GT(beyond(t.expectation("grad.bias"), less.second), channels / 2);
  }
}

TEST(ConvLimits, TheIntegerFillLeavesNoRoomWithoutActivation) {
  for (const char* path : {"forward", "backward"})
    for (const char* context : {"states", "packed"}) {
      const Trial t(line(path, "f32", "integer", context, "none"));
      for (const Expectation& e : t.want) {
        EXPECT_TRUE(e.exact);
        for (std::int64_t i = 0; i < e.size(); ++i) ASSERT_EQ(e.limit[i], 0) << e.tensor;
      }
    }
}

TEST(ConvLimits, WithSiluOnlyTheFunctionsUnitsAreLeft) {
  const Trial t(line("forward", "f32", "integer"));
  const Expectation& want = t.expectation("output.hidden_states");
  for (std::int64_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(std::fmod(want.matched[i], 128), 0);
    ASSERT_LE(want.limit[i], 16 * kUnit * std::fabs(want.oracle[i]) + kSiluFloor);
  }
}

// A float64 difference quotient of the forward, in the place of a formula for the derivative's derivative.
TEST(ConvLimits, WhatAnErrorOfPDoesToTheGradientIsInside) {
  const Trial t(line("backward", "f32", "model"));
  const Expectation& want = t.expectation("grad.input.hidden_states");
  for (std::int64_t i = 0; i < want.size(); ++i) {
    ASSERT_GT(want.limit[i], 0);
    ASSERT_LT(want.limit[i], 1e-5);
    ASSERT_LE(std::fabs(want.matched[i] - want.oracle[i]), want.limit[i]);
  }
}

TEST(ConvLimits, PaddingIsExactlyZeroAndStatesAreCopies) {
  const Trial packed(line("forward", "f32", "model", "packed"));
  const Expectation& y = packed.expectation("output.hidden_states");
  const HostTensor& ids = packed.call.tensor("input.seq_idx");
  std::int64_t padding = 0;
  for (std::int64_t i = 0; i < y.size(); ++i) {
    if (ids.at(i / 12) >= 0) continue;
    ++padding;
    EXPECT_EQ(y.oracle[i], 0);
    EXPECT_EQ(y.limit[i], 0);
  }
  EXPECT_GT(padding, 0);
  const Trial update(
      "causal_conv1d/update batch=3 channels=5 taps=4 state_len=6 activation=silu bias=yes layout=compact dtype=bf16 "
      "fill=model seed=1");
  const Expectation& state = update.expectation("conv_state");
  const HostTensor &before = update.call.tensor("conv_state"), &x = update.call.tensor("input.hidden_states");
  for (std::int64_t cell = 0; cell < 15; ++cell)
    for (std::int64_t i = 0; i < 6; ++i) {
      EXPECT_EQ(state.oracle[cell * 6 + i], i < 5 ? before.at(cell * 6 + i + 1) : x.at(cell));
      EXPECT_EQ(state.limit[cell * 6 + i], 0);
    }
}

TEST(ConvCases, TheCheckNamesWhatItCannotTake) {
  const auto error = [](const std::string& text) -> std::string {
    try {
      const Case c = parse_case(text);
      family(c.family).check(c);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "no error";
  };
  const std::string tail = " activation=silu bias=yes context=states layout=compact dtype=f32 fill=model seed=1";
  EXPECT_NE(error("causal_conv1d/forward batch=1 seq_len=3 channels=2 taps=1" + tail).find("context=states needs taps"),
            std::string::npos);
  EXPECT_NE(error("causal_conv1d/forward batch=1 seq_len=3 channels=0 taps=2" + tail).find("channels=0"),
            std::string::npos);
  EXPECT_NE(
      error("causal_conv1d/sideways batch=1 seq_len=3 channels=1 taps=2" + tail).find("forward, backward, update"),
      std::string::npos);
  EXPECT_NE(error("causal_conv1d/update batch=1 channels=2 taps=4 state_len=2 activation=silu bias=yes layout=compact "
                  "dtype=f32 fill=model seed=1")
                .find("state_len=2; want at least taps - 1 = 3"),
            std::string::npos);
}

}  // namespace
}  // namespace assay::harness
