// One decode step of a mixer: the fill keeps what it promises, and the limits lie between float32's own errors and the
// smallest mistakes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "harness/cases/family.h"
#include "harness/cases/mamba2_decode_step_fill.h"

namespace assay::harness {
namespace {

TEST(DecodeStepFill, IntegersGiveExactConvolutionsAndStates) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const DecodeStepProblem p{.batch = 5,
                              .cache_rows = 8,
                              .heads = 6,
                              .head_dim = 5,
                              .groups = 3,
                              .state_size = 40,
                              .taps = 7,
                              .conv_len = 7,
                              .fill = "integer",
                              .seed = seed};
    const DecodeStepInputs in = decode_step_inputs(p);
    for (const auto* values : {&in.conv_weight, &in.conv_bias, &in.conv_state, &in.state, &in.dt_bias})
      for (const double v : *values) ASSERT_TRUE(v == std::floor(v) && round_to_bfloat16(v) == v) << v;
    std::int64_t let_through = 0;
    const std::int64_t width = p.inner() + p.channels() + p.heads;
    for (std::int64_t row = 0; row < p.batch; ++row)
      for (std::int64_t c = 0; c < p.channels(); ++c) {
        const double now = in.projected[row * width + p.inner() + c];
        double sum = in.conv_bias[c] + in.conv_weight[c * p.taps + p.taps - 1] * now;
        for (std::int64_t j = 0; j + 1 < p.taps; ++j)
          sum += in.conv_weight[c * p.taps + j] * in.conv_state[(row * p.channels() + c) * p.conv_len + j + 1];
        ASSERT_EQ(std::fmod(sum, 128), 0);
        ASSERT_EQ(round_to_bfloat16(sum), sum);
        ASSERT_LE(std::fabs(sum), 72 * 128);
        let_through += sum > 0;
      }
    EXPECT_GT(let_through, p.batch * p.channels() / 3);
  }
}

// The limits of one case of a layer's own kind, and what `mistake` makes of it.
template <class Mistake>
std::int64_t beyond(const char* dtype, const char* tensor, Mistake mistake) {
  const Case c =
      parse_case(std::string("mamba2_decode_step/forward batch=2 heads=4 head_dim=16 groups=2 state_size=64 "
                             "taps=4 conv_len=4 cache=f32 bias=yes rows=all layout=compact eps=1e-05 dtype=") +
                 dtype + " fill=model seed=5");
  const Family& f = family("mamba2_decode_step");
  const auto expectation = [&](bool wrong) {
    Call call = f.calls(c).front();
    if (wrong) mistake(call);
    for (const char* cache : {"conv_state", "state"}) call.tensor(cache).before = call.tensor(cache).bytes;
    for (Expectation& e : f.expect(call, assay_contract{}, false))
      if (e.tensor == tensor) return e;
    throw std::logic_error(tensor);
  };
  // What another rounding of the same inputs gives is the matched reference; of wrong ones, the same with the mistake.
  const Expectation want = expectation(false), got = expectation(true);
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < want.size(); ++i)
    count += !(std::fabs(got.matched[i] - want.oracle[i]) <= want.limit[i]);
  return count;
}

TEST(DecodeStepLimits, HoldTheMatchedReferenceAndNotSmallMistakes) {
  const auto none = [](Call&) {};
  const auto nudge = [](const char* name, std::int64_t i, double by) {
    return [=](Call& call) { call.tensor(name).set(i, call.tensor(name).at(i) + by); };
  };
  for (const char* dtype : {"f32", "bf16"}) {
    for (const char* tensor : {"output.hidden_states", "conv_state", "state"})
      EXPECT_EQ(beyond(dtype, tensor, none), 0);
    // A column of B that the taps read: the group's state and, through C, its output.
    const std::int64_t B = (64 + 3) * 4;
    EXPECT_GT(beyond(dtype, "state", nudge("conv_state", B + 2, 0.25)), 0);
    EXPECT_EQ(beyond(dtype, "state", nudge("conv_state", B, 0.25)), 0);                      // the column that leaves
    EXPECT_GT(beyond(dtype, "output.hidden_states", nudge("input.projected", 7, 0.25)), 0);  // z
    EXPECT_GT(beyond(dtype, "output.hidden_states", nudge("param.D", 1, 0.25)), 8);
    EXPECT_GT(beyond(dtype, "state", nudge("param.A", 1, 0.25)), 500);
    EXPECT_GT(beyond(dtype, "state", nudge("input.projected", 64 + 64 + 256 + 2, 0.125)), 500);  // dt
    EXPECT_EQ(beyond(dtype, "state", nudge("param.norm_weight", 2, 0.25)), 0);
  }
}

TEST(DecodeStepCase, NamesWhatItCannotTake) {
  const Family& f = family("mamba2_decode_step");
  const auto check = [&](const std::string& sizes) {
    f.check(parse_case("mamba2_decode_step/forward " + sizes +
                       " cache=f32 bias=yes rows=all layout=compact eps=1e-05 dtype=f32 fill=integer seed=5"));
  };
  EXPECT_NO_THROW(check("batch=0 heads=4 head_dim=16 groups=2 state_size=64 taps=4 conv_len=4"));
  EXPECT_THROW(check("batch=3 heads=4 head_dim=16 groups=3 state_size=64 taps=4 conv_len=4"), std::invalid_argument);
  EXPECT_THROW(check("batch=3 heads=4 head_dim=0 groups=2 state_size=64 taps=4 conv_len=4"), std::invalid_argument);
  EXPECT_THROW(check("batch=3 heads=4 head_dim=16 groups=2 state_size=64 taps=4 conv_len=2"), std::invalid_argument);
  EXPECT_THROW(check("batch=3 heads=4 head_dim=16 groups=2 state_size=64 taps=9 conv_len=9"), std::invalid_argument);
}

}  // namespace
}  // namespace assay::harness
