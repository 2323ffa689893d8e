// One decode step: the fills keep what they promise, and the limits lie between float32's own errors and the smallest
// mistakes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "harness/cases/family.h"
#include "harness/cases/ssm_state_update_fill.h"

namespace assay::harness {
namespace {

StateUpdateProblem problem(const char* fill, std::uint64_t seed, bool bias = true) {
  return {.batch = 9,
          .cache_rows = 12,
          .heads = 6,
          .head_dim = 5,
          .groups = 3,
          .state_size = 256,
          .softplus = true,
          .bias = bias,
          .fill = fill,
          .seed = seed};
}

TEST(StateUpdateFill, IntegersAreExactInBfloat16AndSoAreTheirSums) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed)
    for (const bool bias : {true, false}) {
      const StateUpdateProblem p = problem("integer", seed, bias);
      const StateUpdateInputs in = state_update_inputs(p);
      for (const auto* values : {&in.x, &in.z, &in.dt, &in.dt_bias, &in.D, &in.B, &in.C, &in.state})
        for (const double v : *values) ASSERT_TRUE(v == std::floor(v) && round_to_bfloat16(v) == v) << v;
      double largest_step = 0;
      for (std::size_t i = 0; i < in.dt.size(); ++i) {
        const double delta = in.dt[i] + (bias ? in.dt_bias[i % p.heads] : 0);
        EXPECT_GT(delta, 20);  // softplus's threshold
        largest_step = std::max(largest_step, delta);
      }
      for (const double A : in.A) EXPECT_TRUE(A == 0 || std::exp(21 * A) == 0);
      const auto largest = [](const std::vector<double>& values) {
        return std::fabs(*std::max_element(values.begin(), values.end(),
                                           [](double a, double b) { return std::fabs(a) < std::fabs(b); }));
      };
      const double state = largest(in.state) + largest_step * largest(in.B) * largest(in.x);
      EXPECT_LT(256 * state * largest(in.C) + largest(in.D) * largest(in.x), 0x1p22);
    }
}

TEST(StateUpdateFill, NoCacheRowIsUsedTwiceAndSomeBatchRowsArePadding) {
  for (const char* fill : {"integer", "model", "edge"}) {
    const StateUpdateInputs in = state_update_inputs(problem(fill, 3));
    std::set<double> used;
    std::int64_t padding = 0;
    for (const double row : in.cache_row) {
      if (row < 0) ++padding;
      else EXPECT_TRUE(row < 12 && used.insert(row).second) << row;
    }
    EXPECT_EQ(padding, 2);
  }
}

// The step in float32, sums in descending order; `dropped`: a term of y that is left out.
std::vector<double> plain_y(const Call& call, std::int64_t dropped) {
  const auto at = [&](const char* name, std::int64_t i) { return static_cast<float>(call.tensor(name).at(i)); };
  const Shape &x = call.tensor("input.x").shape, &B = call.tensor("input.B").shape;
  std::vector<double> y;
  for (std::int64_t i = 0; i < x[0] * x[1] * x[2]; ++i) {
    const std::int64_t step = i / x[2], row = step / x[1], head = step % x[1], n = B[2];
    const std::int64_t keys = (row * B[1] + head / (x[1] / B[1])) * n;
    const float v = at("input.dt", step) + at("input.dt_bias", head), delta = std::log1p(std::exp(v));
    const float decay = std::exp(delta * at("input.A", head));
    float sum = at("input.D", head) * at("input.x", i);
    for (std::int64_t k = n - 1; k >= 0; --k) {
      const float h = at("state", i * n + k) * decay + at("input.B", keys + k) * delta * at("input.x", i);
      if (k != dropped) sum += h * at("input.C", keys + k);
    }
    y.push_back(round_to(call.tensor("output.y").dtype, sum));
  }
  return y;
}

TEST(StateUpdateLimits, HoldFloat32ArithmeticAndNotAMissingTerm) {
  for (const char* dtype : {"f32", "bf16"}) {
    const Case c = parse_case(std::string("ssm_state_update/forward batch=3 heads=4 head_dim=16 groups=2 state_size=64 "
                                          "cache=f32 gate=no D=head bias=yes softplus=yes rows=all layout=compact "
                                          "dtype=") +
                              dtype + " fill=model seed=5");
    const Family& f = family("ssm_state_update");
    Call call = f.calls(c).front();
    call.tensor("state").before = call.tensor("state").bytes;
    const Expectation want = f.expect(call, assay_contract{}, false).front();
    ASSERT_EQ(want.tensor, "output.y");
    const auto beyond = [&](const std::vector<double>& got) {
      std::int64_t count = 0;
      for (std::int64_t i = 0; i < want.size(); ++i) count += !(std::fabs(got[i] - want.oracle[i]) <= want.limit[i]);
      return count;
    };
    EXPECT_EQ(beyond(plain_y(call, -1)), 0);
    EXPECT_GT(beyond(plain_y(call, 17)), want.size() / 2);
  }
}

TEST(StateUpdateCase, NamesWhatItCannotTake) {
  const Family& f = family("ssm_state_update");
  const std::string tail = " cache=f32 gate=no D=head bias=yes softplus=yes rows=all layout=compact dtype=f32 fill=model seed=5";
  const auto check = [&](const std::string& sizes) { f.check(parse_case("ssm_state_update/forward " + sizes + tail)); };
  EXPECT_NO_THROW(check("batch=0 heads=4 head_dim=16 groups=2 state_size=64"));
  EXPECT_THROW(check("batch=3 heads=4 head_dim=16 groups=3 state_size=64"), std::invalid_argument);
  EXPECT_THROW(check("batch=3 heads=4 head_dim=0 groups=2 state_size=64"), std::invalid_argument);
  EXPECT_THROW(check("batch=3 heads=4 head_dim=1 groups=2"), std::invalid_argument);
}

}  // namespace
}  // namespace assay::harness
