#include "reference/ssm_state_update.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/ssd_scan_recurrence.h"
#include "reference/testing/compare.h"
#include "reference/testing/layer_check.h"
#include "reference/testing/scan_problem.h"

namespace assay::reference {
namespace {

using testing::Random;
using testing::ScanProblem;
const Numerics<double> kExact;

TEST(SsmStateUpdate, ByHand) {
  // Delta = 2, exp(Delta A) = 1/4: h = 8/4 + 2 * 3 * 5 = 32, y = 32 * 0.5 + 10 * 5.
  const Tensor<double> x({1, 1, 1}, 5.), dt({1, 1}, 2.), A({1}, -std::log(2.)), B({1, 1, 1}, 3.), C({1, 1, 1}, 0.5), D({1}, 10.);
  Tensor<double> state({1, 1, 1, 1}, 8.);
  const auto y = ssm_state_update<double>(kExact, {.x = x, .dt = dt, .A = A, .B = B, .C = C, .D = &D, .dt_softplus = false}, state,
                                          Storage::native);
  EXPECT_NEAR(state[0], 32, 1e-13);
  EXPECT_NEAR(y[0], 66, 1e-13);
}

TEST(SsmStateUpdate, TheStateIsRoundedAfterYIsTaken) {
  const Tensor<float> x({1, 1, 1}, 1.f), dt({1, 1}, 1.f), A({1}, -100.f), B({1, 1, 1}, 1.f + 0x1p-8f), C({1, 1, 1}, 1.f);
  Tensor<float> state({1, 1, 1, 1});
  const SsmStateUpdateInputs<float> in{.x = x, .dt = dt, .A = A, .B = B, .C = C, .dt_softplus = false};
  EXPECT_EQ(ssm_state_update<float>({}, in, state, Storage::bfloat16)[0], 1.f + 0x1p-8f);
  EXPECT_EQ(state[0], 1.f);  // the tie went to even
}

TEST(SsmStateUpdate, RowsOfTheStateAndPadding) {
  Random random(1);
  const auto x = random.tensor<double>({3, 2, 4}), dt = random.tensor<double>({3, 2}), A = random.tensor<double>({2}, -1, 0);
  const auto B = random.tensor<double>({3, 1, 5}), C = random.tensor<double>({3, 1, 5}), start = random.tensor<double>({4, 2, 4, 5});
  const std::vector<std::int32_t> rows = {3, -1, 0};
  SsmStateUpdateInputs<double> in{.x = x, .dt = dt, .A = A, .B = B, .C = C, .state_rows = rows};
  Tensor<double> state = start;
  const auto y = ssm_state_update(kExact, in, state, Storage::native);
  for (Index i = 0; i < 8; ++i) EXPECT_EQ(y[8 + i], 0);
  for (Index i = 0; i < 80; ++i) EXPECT_EQ(state[40 + i], start[40 + i]);  // rows 1 and 2
  in.state_rows = {};
  Tensor<double> plain({3, 2, 4, 5});
  std::copy_n(&start(3, 0, 0, 0), 40, &plain(0, 0, 0, 0));
  std::copy_n(&start(0, 0, 0, 0), 40, &plain(2, 0, 0, 0));
  const auto want = ssm_state_update(kExact, in, plain, Storage::native);
  for (Index i = 0; i < 8; ++i) EXPECT_EQ(y[i], want[i]);
  EXPECT_EQ(state(0, 1, 2, 3), plain(2, 1, 2, 3));
  const std::vector<std::int32_t> beyond = {0, 4, 0};
  in.state_rows = beyond;
  EXPECT_THROW(ssm_state_update(kExact, in, state, Storage::native), std::invalid_argument);
}

class SsmStateUpdateProperty : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, SsmStateUpdateProperty, ::testing::Range(0, 20));

TEST_P(SsmStateUpdateProperty, StepByStepIsTheScan) {  // where the clamp does not bind
  ScanProblem<double> p = testing::random_scan(static_cast<std::uint64_t>(GetParam()));
  p.with_seq_idx = false;
  p.dt_min = 0, p.dt_max = std::numeric_limits<double>::infinity();
  const auto in = p.inputs();
  const auto want = ssd_scan_recurrence_forward(kExact, in);
  Tensor<double> state = p.with_initial_state ? p.initial_state : Tensor<double>(p.initial_state.shape());
  for (Index t = 0; t < p.seq_len; ++t) {
    const auto now = [&](const Tensor<double>& all) {
      Shape shape = all.shape();
      const Index width = all.size() / (shape[0] * shape[1]);
      shape.erase(shape.begin() + 1);
      Tensor<double> part(shape);
      for (Index b = 0; b < p.batch; ++b) std::copy_n(all.data() + (b * p.seq_len + t) * width, width, part.data() + b * width);
      return part;
    };
    const auto x = now(p.x), dt = now(p.dt), B = now(p.B), C = now(p.C), z = now(p.z), wanted = now(want.y);
    const auto y = ssm_state_update(kExact, {.x = x, .dt = dt, .A = p.A, .B = B, .C = C, .D = in.D, .z = in.z ? &z : nullptr,
                                             .dt_bias = in.dt_bias, .dt_softplus = p.dt_softplus}, state, Storage::native);
    EXPECT_LT(testing::relative_l2(y, wanted), 1e-13);
  }
  EXPECT_LT(testing::relative_l2(state, want.final_state), 1e-13);
}

class SsmStateUpdateFixture : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Upstream, SsmStateUpdateFixture, ::testing::ValuesIn(testing::fixture_names("ssm_state_update_")));

TEST_P(SsmStateUpdateFixture, Reproduced) {
  const auto run = [](const auto& num, const auto&, const testing::Fixture& fixture) {
    using T = typename std::remove_cvref_t<decltype(num)>::Scalar;
    const auto get = [&](const std::string& name) {
      const auto* tensor = fixture.find(name);
      return tensor ? tensor->template as<T>() : Tensor<T>{};
    };
    const auto maybe = [](const Tensor<T>& t) { return t.empty() ? nullptr : &t; };
    const auto A = get("input.A"), D = get("input.D"), dt_bias = get("input.dt_bias");
    Tensor<T> state = get("input.state");
    // The oracle keeps what a bfloat16 state rounds away, so each step starts from the recorded state.
    const bool state_in_bfloat16 = fixture["input.state"].dtype == "bfloat16";
    const Storage storage = state_in_bfloat16 && std::is_same_v<T, float> ? Storage::bfloat16 : Storage::native;
    testing::Results<T> results;
    for (int step = 0; step < fixture.attributes.at("steps"); ++step) {
      const std::string at = "step." + std::to_string(step) + ".";
      const auto x = get(at + "input.x"), dt = get(at + "input.dt"), B = get(at + "input.B"), C = get(at + "input.C"), z = get(at + "input.z");
      results[at + "output.y"] = ssm_state_update(
          num, {.x = x, .dt = dt, .A = A, .B = B, .C = C, .D = maybe(D), .z = maybe(z), .dt_bias = maybe(dt_bias),
                .dt_softplus = fixture.attributes.at("dt_softplus")}, state, storage);
      results[at + "output.state"] = state;
      if (state_in_bfloat16) state = get(at + "output.state");
    }
    return results;
  };
  testing::check_fixture(GetParam(), {.relative_l2 = 5e-6}, run);
}

}  // namespace
}  // namespace assay::reference
