// The border, the plan, both variants against a scalar model in double. Parity with the reference is the harness's job.
#include <gtest/gtest.h>

#include <tuple>

#include "cuda/common/testing.h"
#include "cuda/common/vec.cuh"
#include "cuda/ssm_state_update/ssm_state_update.cuh"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

struct Options {
  bool D = true, D_per_channel = false, z = true, dt_bias = true, softplus = true, strided = false, padded = false;
  float dt_min = -HUGE_VALF;
};

template <class T, class S>
struct Problem {
  int batch, heads, head_dim, groups, state_size;
  Options options = {};

  int more() const { return options.strided ? 16 : 0; }
  SsmStateUpdateDims dims() const {
    const std::int64_t channels = heads * head_dim, vectors = groups * state_size;
    return {.batch = batch,
            .heads = heads,
            .head_dim = head_dim,
            .groups = groups,
            .state_size = state_size,
            .x_stride = channels + more(),
            .dt_stride = heads + more(),
            .B_stride = vectors + 2 * more(),
            .C_stride = vectors + 3 * more(),
            .z_stride = channels + 4 * more(),
            .state_stride = channels * state_size + more()};
  }

  struct Results {
    std::vector<T> y;
    std::vector<S> state;
  };
  struct Inputs {
    std::vector<T> x, B, C, z;
    std::vector<float> dt, A, D, dt_bias;
    std::vector<std::int32_t> rows;
    std::vector<S> state;
  };

  Inputs inputs() const {
    const SsmStateUpdateDims d = dims();
    const auto count = [&](std::int64_t stride) { return static_cast<std::size_t>(batch * stride); };
    Inputs in{.x = test_values<T>(count(d.x_stride), 1),
              .B = test_values<T>(count(d.B_stride), 2),
              .C = test_values<T>(count(d.C_stride), 3),
              .z = test_values<T>(count(d.z_stride), 4),
              .dt = test_values<float>(count(d.dt_stride), 5),
              .A = test_values<float>(static_cast<std::size_t>(heads), 6),
              .D = test_values<float>(static_cast<std::size_t>(heads * head_dim), 7),
              .dt_bias = test_values<float>(static_cast<std::size_t>(heads), 8),
              .rows = {},
              .state = test_values<S>(static_cast<std::size_t>((batch + 2) * d.state_stride), 9)};
    for (float& a : in.A) a = -std::abs(a) - 0.125f;
    if (options.padded) {  // backwards, every third row padding
      for (int b = 0; b < batch; ++b) in.rows.push_back(b % 3 == 1 ? -1 : batch + 1 - b);
    }
    return in;
  }

  Results run(Method method) const {
    const Inputs in = inputs();
    const TestBuffer<T> x(in.x), B(in.B), C(in.C), z(in.z), y(static_cast<std::size_t>(batch * heads * head_dim));
    const TestBuffer<float> dt(in.dt), A(in.A), D(in.D), dt_bias(in.dt_bias);
    const TestBuffer<std::int32_t> rows(in.rows);
    const TestBuffer<S> state(in.state);
    SsmStateUpdate<T, S> t{.x = x.data(),
                           .dt = dt.data(),
                           .A = A.data(),
                           .B = B.data(),
                           .C = C.data(),
                           .state = state.data(),
                           .y = y.data()};
    if (options.D) t.D = D.data();
    t.D_per_channel = options.D_per_channel;
    if (options.z) t.z = z.data();
    if (options.dt_bias) t.dt_bias = dt_bias.data();
    t.dt_softplus = options.softplus;
    t.dt_min = options.dt_min;
    if (options.padded) t.state_rows = rows.data();
    ssm_state_update(dims(), t, nullptr, method);
    return {y.download(), state.download()};
  }

  // The definition, in double; one rounding at the end.
  Results model() const {
    const Inputs in = inputs();
    const SsmStateUpdateDims d = dims();
    Results out{std::vector<T>(static_cast<std::size_t>(batch * heads * head_dim)), in.state};
    for (int b = 0; b < batch; ++b) {
      const int row = options.padded ? in.rows[static_cast<std::size_t>(b)] : b;
      for (int h = 0; h < heads; ++h) {
        const auto head = static_cast<std::size_t>(h);
        double delta = in.dt[static_cast<std::size_t>(b * d.dt_stride + h)];
        if (options.dt_bias) delta += in.dt_bias[head];
        if (options.softplus) delta = std::log1p(std::exp(delta));
        delta = std::max(delta, static_cast<double>(options.dt_min));
        const double decay = std::exp(delta * in.A[head]);
        for (int p = 0; p < head_dim; ++p) {
          const int channel = h * head_dim + p;
          T& y = out.y[static_cast<std::size_t>(b * heads * head_dim + channel)];
          y = T(0.0f);
          if (row < 0) continue;
          const double x = to_float(in.x[static_cast<std::size_t>(b * d.x_stride + channel)]);
          double sum = 0;
          for (int n = 0; n < state_size; ++n) {
            const auto vector = static_cast<std::int64_t>(h / (heads / groups) * state_size + n);
            S& element = out.state[static_cast<std::size_t>(row * d.state_stride + channel * state_size + n)];
            const double updated = to_float(element) * decay +
                                   to_float(in.B[static_cast<std::size_t>(b * d.B_stride + vector)]) * delta * x;
            sum += updated * to_float(in.C[static_cast<std::size_t>(b * d.C_stride + vector)]);
            element = from_float<S>(static_cast<float>(updated));
          }
          if (options.D) sum += in.D[static_cast<std::size_t>(options.D_per_channel ? channel : h)] * x;
          if (options.z) {
            const double z = to_float(in.z[static_cast<std::size_t>(b * d.z_stride + channel)]);
            sum *= z / (1 + std::exp(-z));
          }
          y = from_float<T>(static_cast<float>(sum));
        }
      }
    }
    return out;
  }
};

// ---- the border

TEST(SsmStateUpdateBorder, RefusesUnusableArguments) {
  const Problem<float, float> problem{2, 4, 3, 2, 4};
  const TestBuffer<float> some(4);
  const SsmStateUpdate<float, float> tensors{.x = some.data(),
                                             .dt = some.data(),
                                             .A = some.data(),
                                             .B = some.data(),
                                             .C = some.data(),
                                             .state = some.data(),
                                             .y = some.data()};
  const auto expect = [&](const SsmStateUpdateDims& d, const SsmStateUpdate<float, float>& t, const char* text) {
    expect_refusal([&] { ssm_state_update(d, t, nullptr); }, text);
  };
  using Dims = SsmStateUpdateDims;
  for (const auto& [member, value, text] : std::initializer_list<std::tuple<std::int64_t Dims::*, int, const char*>>{
           {&Dims::batch, -1, "batch = -1; want 0"},
           {&Dims::heads, 0, "heads = 0; want 1"},
           {&Dims::head_dim, 0, "head_dim = 0; want 1"},
           {&Dims::groups, 3, "groups = 3; want a divisor of heads = 4"},
           {&Dims::state_size, 0, "state_size = 0; want 1"},
           {&Dims::x_stride, 11, "x_stride = 11; want >= 12"},
           {&Dims::dt_stride, 3, "dt_stride = 3; want >= 4"},
           {&Dims::B_stride, 7, "B_stride = 7; want >= 8"},
           {&Dims::C_stride, 7, "C_stride = 7; want >= 8"},
           {&Dims::z_stride, 11, "z_stride = 11; want >= 12"},
           {&Dims::state_stride, 47, "state_stride = 47; want >= 48"}}) {
    Dims dims = problem.dims();
    dims.*member = value;
    expect(dims, tensors, text);
  }
  auto t = tensors;
  expect(problem.dims(), (t.y = nullptr, t), "y is null");
  t = tensors;
  expect(problem.dims(), (t.dt = {}, t), "dt");
  t = tensors;
  expect(problem.dims(), (t.dt_min = NAN, t), "dt_min is not a number");
}

TEST(SsmStateUpdateBorder, AnEmptyBatchIsFine) {
  SsmStateUpdateDims dims = Problem<float, float>{0, 4, 3, 2, 4}.dims();
  ssm_state_update(dims, SsmStateUpdate<float, float>{}, nullptr);
}

// ---- the plan

TEST(SsmStateUpdatePlan, KeepsRowsOfAnyWholeVectorUpTo256) {
  using ssm_state_update_plan::plan;
  const auto planned = [](int state_size, std::size_t bytes) {
    return plan(Problem<float, float>{1, 64, 64, 8, state_size}.dims(), 2, bytes, true, Method::automatic);
  };
  EXPECT_EQ(planned(128, 4).vectors, 4);
  EXPECT_EQ(planned(128, 4).blocks, 64 * 4);  // one token of Nano 30B
  EXPECT_EQ(planned(128, 2).vectors, 2);
  EXPECT_EQ(planned(128, 2).blocks, 64 * 2);
  EXPECT_EQ(planned(256, 4).vectors, 8);
  EXPECT_EQ(planned(260, 4).naive, true);
  EXPECT_EQ(planned(12, 4).naive, false);
  EXPECT_EQ(planned(12, 2).naive, true);  // 24 bytes
  const auto dims = Problem<float, float>{1, 2, 3, 1, 16}.dims();
  EXPECT_TRUE(plan(dims, 4, 4, false, Method::automatic).naive);
  EXPECT_STREQ(ssm_state_update_variant(dims, 4), "rows_in_registers");
  EXPECT_STREQ(ssm_state_update_variant(dims, 4, Method::naive), "naive");
}

// ---- values

template <class Types>
class SsmStateUpdateVariants : public testing::Test {};
using AllTypes =
    testing::Types<std::tuple<float, float>, std::tuple<float, bf16>, std::tuple<bf16, float>, std::tuple<bf16, bf16>>;
TYPED_TEST_SUITE(SsmStateUpdateVariants, AllTypes);

template <class T, class S>
void expect_the_model(const Problem<T, S>& problem) {
  SCOPED_TRACE(testing::Message() << problem.batch << " x " << problem.heads << " x " << problem.head_dim << " x "
                                  << problem.state_size);
  const auto want = problem.model();
  for (const Method method : {Method::automatic, Method::naive}) {
    const auto got = problem.run(method);
    EXPECT_LE(distance(got.y, want.y), tolerance<T>());
    EXPECT_LE(distance(got.state, want.state), tolerance<S>());
  }
}

TYPED_TEST(SsmStateUpdateVariants, AgreeWithTheModel) {
  using T = std::tuple_element_t<0, TypeParam>;
  using S = std::tuple_element_t<1, TypeParam>;
  for (const Problem<T, S>& p :
       {Problem<T, S>{1, 1, 1, 1, 1}, Problem<T, S>{2, 4, 3, 2, 8}, Problem<T, S>{3, 2, 17, 1, 16},
        Problem<T, S>{2, 4, 64, 2, 128}, Problem<T, S>{1, 2, 33, 2, 256}, Problem<T, S>{2, 2, 80, 1, 48},
        Problem<T, S>{1, 2, 130, 1, 24}, Problem<T, S>{1, 1, 5, 1, 260}, Problem<T, S>{2, 3, 7, 3, 13}}) {
    expect_the_model(p);
  }
}

TYPED_TEST(SsmStateUpdateVariants, TakeEveryOption) {
  using P = Problem<std::tuple_element_t<0, TypeParam>, std::tuple_element_t<1, TypeParam>>;
  expect_the_model(P{2, 4, 20, 2, 32, {.D = false, .z = false, .dt_bias = false}});
  expect_the_model(P{2, 4, 20, 2, 32, {.D_per_channel = true}});
  expect_the_model(P{2, 4, 20, 2, 32, {.softplus = false, .dt_min = 0.25f}});
  expect_the_model(P{5, 4, 20, 2, 32, {.strided = true, .padded = true}});
  expect_the_model(P{5, 4, 20, 2, 13, {.z = false, .strided = true, .padded = true}});
}

TYPED_TEST(SsmStateUpdateVariants, RepeatBitForBitUnderSchedulesOfOneArithmetic) {
  const Problem<std::tuple_element_t<0, TypeParam>, std::tuple_element_t<1, TypeParam>> problem{3, 4, 40, 2, 128};
  expect_repeats_under_schedules([&] { return problem.run(Method::automatic); },
                                 [&](const auto& results, const auto& first) {
                                   EXPECT_EQ(distance(results.y, first.y), 0);
                                   EXPECT_EQ(distance(results.state, first.state), 0);
                                 });
}

TEST(SsmStateUpdate, ScalarsMayBeBfloat16) {
  const std::vector<float> exact = {0.5f, -1.25f};
  const TestBuffer<float> wide(exact);
  const TestBuffer<bf16> narrow(std::vector<bf16>{bf16(0.5f), bf16(-1.25f)});
  const auto run = [&](Scalars scalars) {
    const TestBuffer<float> x(test_values<float>(6, 1)), A(std::vector<float>{-1.0f, -0.5f}),
        B(test_values<float>(4, 2)), C(test_values<float>(4, 3)), state(test_values<float>(24, 4)), y(6);
    const Problem<float, float> problem{1, 2, 3, 1, 4};
    ssm_state_update(problem.dims(),
                     SsmStateUpdate<float, float>{.x = x.data(),
                                                  .dt = scalars,
                                                  .A = A.data(),
                                                  .B = B.data(),
                                                  .C = C.data(),
                                                  .D = scalars,
                                                  .dt_bias = scalars,
                                                  .state = state.data(),
                                                  .y = y.data()},
                     nullptr);
    return y.download();
  };
  EXPECT_EQ(run(wide.data()), run(narrow.data()));
}

}  // namespace
}  // namespace assay::gpu
