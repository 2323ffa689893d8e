// The border, the plan, and every fast variant against the naive one. Parity with the reference is the harness's job.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "cuda/common/testing.h"
#include "cuda/rms_norm/rms_norm.cuh"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;
using rms_norm::Plan;

// ---- the border

TEST(RmsNormBorder, RefusesUnusableArguments) {
  const TestBuffer<float> x(8), w(4), y(8), rstd(2);
  const RmsNormDims dims{.rows = 2, .hidden_size = 4, .row_stride = 4};
  const RmsNormForward<float> good{.hidden_states = x.data(),
                                   .residual = nullptr,
                                   .weight = w.data(),
                                   .eps = 1e-5f,
                                   .out_hidden_states = y.data(),
                                   .out_residual = nullptr,
                                   .rstd = rstd.data()};
  const auto forward = [&](RmsNormDims d, RmsNormForward<float> t) { return [=] { rms_norm_forward(d, t, nullptr); }; };
  auto d = dims;
  auto t = good;
  expect_refusal(forward((d.rows = -1, d), good), "rows = -1; want >= 0");
  d = dims;
  expect_refusal(forward((d.hidden_size = 0, d), good), "hidden_size = 0; want 1 .. 2^30");
  d = dims;
  expect_refusal(forward((d.row_stride = 3, d), good), "row_stride = 3; want >= hidden_size = 4");
  expect_refusal(forward(dims, (t.eps = -1.0f, t)), "eps = -1; want finite and >= 0");
  t = good;
  expect_refusal(forward(dims, (t.eps = std::numeric_limits<float>::quiet_NaN(), t)), "eps = nan");
  t = good;
  expect_refusal(forward(dims, (t.residual = x.data(), t)), "want both or neither");
  t = good;
  expect_refusal(forward(dims, (t.weight = nullptr, t)), "weight");
  const RmsNormBackward<float> bad{};
  expect_refusal([&] { rms_norm_backward(dims, bad, nullptr); }, "rms_norm_backward: d_weight is null");
}

TEST(RmsNormBorder, NoRowsWriteZeroWeightGradients) {
  const RmsNormDims dims{.rows = 0, .hidden_size = 5, .row_stride = 5};
  rms_norm_forward(dims, RmsNormForward<float>{.eps = 1e-5f}, nullptr);
  EXPECT_EQ(rms_norm_backward_workspace(dims), 0u);
  for (const Method method : {Method::automatic, Method::naive}) {
    const TestBuffer<float> d_weight(5);
    rms_norm_backward(dims, RmsNormBackward<float>{.d_weight = d_weight.data()}, nullptr, method);
    EXPECT_EQ(d_weight.download(), std::vector<float>(5, 0.0f));
  }
}

// ---- the plan

TEST(RmsNormPlan, NamesItsVariant) {
  const auto variant = [](std::int64_t width, std::int64_t stride, std::size_t size) {
    return std::string(rms_norm_variant({.rows = 7, .hidden_size = width, .row_stride = stride}, size));
  };
  EXPECT_EQ(variant(64, 64, 2), "warp_per_row");
  EXPECT_EQ(variant(2688, 2688, 2), "block_per_row");
  EXPECT_EQ(variant(8192, 8192, 4), "block_per_row");
  EXPECT_EQ(variant(8192, 8193, 4), "block_rereads_row");
  EXPECT_STREQ(rms_norm_variant({.rows = 7, .hidden_size = 64, .row_stride = 64}, 2, Method::naive), "naive");
}

TEST(RmsNormPlan, BackwardGivesEachTeamFourRowsOrMore) {
  const RmsNormDims dims{.rows = 41, .hidden_size = 2688, .row_stride = 2688};
  const Plan plan = rms_norm::plan_backward(dims, 8, Method::automatic);
  EXPECT_EQ(plan.partials, 11);
  EXPECT_EQ(plan.blocks, 11);
  EXPECT_EQ(rms_norm_backward_workspace(dims), 11u * 2688 * sizeof(float));
}

// ---- fast against naive

struct Run {
  Method method = Method::automatic;
  std::optional<RowPlan> row;          // instead of the planned one
  std::optional<std::int64_t> blocks;  // instead of the planned number
};

// Forward, then backward with what the forward saved.
template <class T, class R, class W>
struct Problem {
  RmsNormDims dims;
  bool residual;

  struct Results {
    std::vector<T> out, d_x;
    std::vector<R> h, d_residual;
    std::vector<float> rstd;
    std::vector<W> d_weight;
  };

  Results run(const Run& how) const {
    const auto rows = static_cast<std::size_t>(dims.rows), width = static_cast<std::size_t>(dims.hidden_size);
    const std::size_t size = rows * width, strided = rows * static_cast<std::size_t>(dims.row_stride);
    const std::int64_t partials = std::max<std::int64_t>(partial_count(dims.rows), 1);
    const TestBuffer<T> x(test_values<T>(strided, 1)), d_out(test_values<T>(size, 2)), out(size), d_x(size);
    const TestBuffer<R> stream(test_values<R>(size, 3)), d_stream(test_values<R>(size, 4)), h(size), d_residual(size);
    const TestBuffer<W> weight(test_values<W>(width, 5)), d_weight(width);
    const TestBuffer<float> rstd(rows), workspace(static_cast<std::size_t>(partials) * width);

    const RmsNormForward<T, R, W> forward{.hidden_states = x.data(),
                                          .residual = residual ? stream.data() : nullptr,
                                          .weight = weight.data(),
                                          .eps = 1e-5f,
                                          .out_hidden_states = out.data(),
                                          .out_residual = residual ? h.data() : nullptr,
                                          .rstd = rstd.data()};
    const int vector = vector_width(sizeof(T), {dims.hidden_size, dims.row_stride}, {});
    Plan plan = rms_norm::plan_forward(dims, vector, how.method);
    if (how.row) plan.row = *how.row, plan.blocks = plan.row.blocks(dims.rows);
    if (how.blocks) plan.blocks = *how.blocks;
    rms_norm::launch_forward(plan, dims, forward, nullptr);

    RmsNormDims stored = dims;
    const R* normed = h.data();
    if (residual) {
      stored.row_stride = dims.hidden_size;
    } else if constexpr (std::is_same_v<T, R>) {
      normed = x.data();
    }
    const RmsNormBackward<T, R, W> backward{.normed = normed,
                                            .weight = weight.data(),
                                            .rstd = rstd.data(),
                                            .d_out = d_out.data(),
                                            .d_out_residual = residual ? d_stream.data() : nullptr,
                                            .d_hidden_states = d_x.data(),
                                            .d_residual = residual ? d_residual.data() : nullptr,
                                            .d_weight = d_weight.data(),
                                            .workspace = workspace.data()};
    plan = rms_norm::plan_backward(stored, vector, how.method);
    if (how.row) plan.row = *how.row, plan.blocks = plan.row.blocks(plan.partials);
    if (how.blocks) plan.blocks = *how.blocks;
    rms_norm::launch_backward(plan, stored, backward, nullptr);
    return {out.download(),
            d_x.download(),
            residual ? h.download() : std::vector<R>(),
            residual ? d_residual.download() : std::vector<R>(),
            rstd.download(),
            d_weight.download()};
  }
};

template <class T, class R, class W>
void expect_close(const typename Problem<T, R, W>::Results& got, const typename Problem<T, R, W>::Results& want) {
  EXPECT_LE(distance(got.rstd, want.rstd), tolerance<float>());
  EXPECT_LE(distance(got.out, want.out), tolerance<T>());
  EXPECT_EQ(distance(got.h, want.h), 0);
  EXPECT_LE(distance(got.d_x, want.d_x), tolerance<T>());
  EXPECT_LE(distance(got.d_residual, want.d_residual), tolerance<R>());
  EXPECT_LE(distance(got.d_weight, want.d_weight), tolerance<W>());
}

template <class Types>
class RmsNormVariants : public testing::Test {};

template <class T_, class R_, class W_>
struct Types {
  using T = T_;
  using R = R_;
  using W = W_;
};
using AllTypes = testing::Types<Types<float, float, float>, Types<bf16, bf16, bf16>, Types<bf16, bf16, float>,
                                Types<bf16, float, bf16>, Types<bf16, float, float>>;
TYPED_TEST_SUITE(RmsNormVariants, AllTypes);

TYPED_TEST(RmsNormVariants, AgreeWithTheNaiveOne) {
  using T = typename TypeParam::T;
  using R = typename TypeParam::R;
  using W = typename TypeParam::W;
  const auto expect = [](const Problem<T, R, W>& problem, const Run& how) {
    SCOPED_TRACE(testing::Message() << problem.dims.rows << " x " << problem.dims.hidden_size << ", stride "
                                    << problem.dims.row_stride << (problem.residual ? ", residual" : ""));
    expect_close<T, R, W>(problem.run(how), problem.run({.method = Method::naive}));
  };
  for (const bool residual : {true, false}) {
    if (!residual && !std::is_same_v<T, R>) continue;
    for (const auto [rows, width, stride] : {std::array<std::int64_t, 3>{1, 1, 1},
                                             {3, 7, 9},
                                             {5, 64, 64},
                                             {9, 96, 104},
                                             {2, 257, 257},
                                             {6, 520, 528},
                                             {5, 1021, 1021},
                                             {2, 4104, 4104},
                                             {3, 4099, 4099},
                                             {2, 8200, 8200}}) {
      expect({{.rows = rows, .hidden_size = width, .row_stride = stride}, residual}, {});
    }
    // Fewer blocks than rows: every team takes several.
    expect({{.rows = 23, .hidden_size = 64, .row_stride = 64}, residual}, {.blocks = 1});
    expect({{.rows = 9, .hidden_size = 1024, .row_stride = 1024}, residual}, {.blocks = 1});
    // Every variant on one size, by scalars and by vectors.
    const Problem<T, R, W> problem{{.rows = 6, .hidden_size = 128, .row_stride = 128}, residual};
    for (const int vector : {1, static_cast<int>(16 / sizeof(T))}) {
      for (const RowVariant variant :
           {RowVariant::warp_per_row, RowVariant::block_per_row, RowVariant::block_rereads_row}) {
        expect(problem, {.row = RowPlan{variant, vector, 64 + 32 * (vector > 1)}});
      }
    }
  }
}

TYPED_TEST(RmsNormVariants, RepeatBitForBitUnderEverySchedule) {
  using T = typename TypeParam::T;
  const Problem<T, typename TypeParam::R, typename TypeParam::W> problem{
      {.rows = 7, .hidden_size = 1024, .row_stride = 1024}, true};
  const auto first = problem.run({});
  for (std::size_t schedule = 0; schedule < simt::schedules().size(); ++schedule) {
    simt::set_schedule(schedule, 11);
    const auto again = problem.run({});
    EXPECT_EQ(again.rstd, first.rstd);
    EXPECT_EQ(distance(again.out, first.out), 0);
    EXPECT_EQ(distance(again.d_x, first.d_x), 0);
    EXPECT_EQ(distance(again.d_weight, first.d_weight), 0);
  }
  simt::set_schedule(0, 1);
}

}  // namespace
}  // namespace assay::gpu
