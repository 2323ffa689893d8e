// The limits, tried from both sides: float32 arithmetic in any order stays inside them, and the smallest mistakes do
// not.
#include "harness/cases/norm_limits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "harness/cases/family.h"
#include "harness/core/expectation.h"
#include "harness/core/random.h"

namespace assay::harness {
namespace {

// A case's expectation, and the norm in plain float32 with the sum of squares added in the order of `order`.
struct Trial {
  Call call;
  Expectation want;
};
Trial trial(const char* line) {
  const Case c = parse_case(line);
  const Family& f = family(c.family);
  Trial t{f.calls(c).back(), {}};
  assay_contract contract{};
  t.want = f.expect(t.call, contract, false).back();
  return t;
}

std::vector<double> plain_norm(const Trial& t, const std::vector<std::int64_t>& order, float function_error,
                               std::int64_t dropped = -1) {
  const HostTensor &x = t.call.tensor("input.hidden_states"), &w = t.call.tensor("param.weight");
  const std::int64_t width = x.shape.back(), rows = x.size() / width;
  const auto eps = static_cast<float>(t.call.number("eps"));
  std::vector<double> y;
  for (std::int64_t r = 0; r < rows; ++r) {
    float sum = 0;
    for (const std::int64_t i : order) {
      const auto v = static_cast<float>(x.at(r * width + i));
      if (i != dropped) sum = sum + v * v;
    }
    const float rstd = 1.0f / std::sqrt(sum / static_cast<float>(width) + eps) * (1 + function_error);
    for (std::int64_t i = 0; i < width; ++i)
      y.push_back(round_to(x.dtype, static_cast<float>(x.at(r * width + i)) * rstd * static_cast<float>(w.at(i))));
  }
  return y;
}

std::int64_t beyond(const Expectation& want, const std::vector<double>& got) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < want.size(); ++i) count += !(std::fabs(got[i] - want.oracle[i]) <= want.limit[i]);
  return count;
}

std::vector<std::int64_t> shuffled(std::int64_t n, std::uint64_t seed) {
  std::vector<std::int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  const Random r(seed, "order");
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return r.uniform(a) < r.uniform(b); });
  return order;
}

TEST(NormLimits, AnyOrderOfTheSumIsInside) {
  for (const char* line :
       {"rms_norm/forward rows=40 width=4096 residual=none layout=compact eps=1e-05 dtype=f32 fill=model seed=1",
        "rms_norm/forward rows=40 width=257 residual=none layout=compact eps=1e-05 dtype=f32 fill=outlier seed=2",
        "rms_norm/forward rows=40 width=2688 residual=none layout=compact eps=1e-05 dtype=bf16 fill=model seed=3",
        "rms_norm/forward rows=60 width=33 residual=none layout=compact eps=1e-05 dtype=bf16 fill=edge seed=4",
        "rms_norm/forward rows=60 width=64 residual=none layout=compact eps=1e-05 dtype=f32 fill=edge seed=5"}) {
    const Trial t = trial(line);
    const std::int64_t width = t.want.shape.back();
    for (std::uint64_t seed = 0; seed < 10; ++seed)
      // A reciprocal root 2 ulp from the nearest float, at either end.
      for (const float function : {-4 * 0x1p-24f, 0.0f, 4 * 0x1p-24f})
        ASSERT_EQ(beyond(t.want, plain_norm(t, seed == 0 ? shuffled(width, 0) : shuffled(width, seed), function)), 0)
            << line;
  }
}

TEST(NormLimits, OneElementLeftOutOfTheSumIsSeen) {
  for (const char* line :
       {"rms_norm/forward rows=40 width=4096 residual=none layout=compact eps=1e-05 dtype=f32 fill=model seed=1",
        "rms_norm/forward rows=40 width=255 residual=none layout=compact eps=1e-05 dtype=bf16 fill=model seed=1"}) {
    const Trial t = trial(line);
    EXPECT_GT(beyond(t.want, plain_norm(t, shuffled(t.want.shape.back(), 0), 0, t.want.shape.back() - 1)), 0) << line;
  }
}

TEST(NormLimits, AFewUnitsOfSystematicErrorAreSeen) {
  // 64 units of 2^-24: a reciprocal root good to 18 bits, in a row short enough that its sum cannot err as much.
  const Trial t =
      trial("rms_norm/forward rows=40 width=64 residual=none layout=compact eps=1e-05 dtype=f32 fill=model seed=1");
  EXPECT_GT(beyond(t.want, plain_norm(t, shuffled(64, 0), 64 * 0x1p-24f)), 0);
}

TEST(NormLimits, FreedomIsWellBelowTheLimit) {
  for (const char* line : {"gated_rms_norm/backward rows=9 width=256 groups=2 gate=yes layout=compact eps=1e-05 "
                           "dtype=bf16 fill=model seed=1",
                           "gated_rms_norm/backward rows=9 width=256 groups=2 gate=yes layout=compact eps=1e-05 "
                           "dtype=f32 fill=model seed=1"}) {
    const Case c = parse_case(line);
    const Family& f = family(c.family);
    for (const Expectation& e : f.expect(f.calls(c).back(), assay_contract{}, false)) {
      ASSERT_EQ(e.limit.size(), e.oracle.size());
      ASSERT_EQ(e.freedom.size(), e.oracle.size());
      for (std::int64_t i = 0; i < e.size(); ++i) {
        ASSERT_GT(e.limit[i], 0);
        ASSERT_LT(e.freedom[i], e.limit[i]) << e.tensor;
      }
    }
  }
}

}  // namespace
}  // namespace assay::harness
