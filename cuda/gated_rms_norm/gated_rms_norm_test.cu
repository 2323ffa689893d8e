// The border, the plan, and every fast variant against the naive one. Parity with the reference is the harness's job.
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "cuda/common/testing.h"
#include "cuda/gated_rms_norm/gated_rms_norm.cuh"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;
using gated_rms_norm::Plan;

// ---- the border

TEST(GatedRmsNormBorder, RefusesUnusableArguments) {
  const TestBuffer<float> x(12), w(6), y(12);
  const GatedRmsNormDims dims{.rows = 2, .width = 6, .group_size = 3, .row_stride = 6, .gate_stride = 6};
  const GatedRmsNormForward<float> tensors{
      .hidden_states = x.data(), .gate = nullptr, .weight = w.data(), .eps = 1e-5f, .out = y.data(), .rstd = nullptr};
  const auto expect = [&](GatedRmsNormDims d, GatedRmsNormForward<float> t, const char* text) {
    expect_refusal([&] { gated_rms_norm_forward(d, t, nullptr); }, text);
  };
  auto d = dims;
  expect((d.rows = -3, d), tensors, "rows = -3; want >= 0");
  d = dims;
  expect((d.width = 0, d), tensors, "width = 0; want 1 .. 2^30");
  d = dims;
  expect((d.group_size = 4, d), tensors, "group_size = 4; want a divisor of width = 6");
  d = dims;
  expect((d.group_size = 0, d), tensors, "group_size = 0");
  d = dims;
  expect((d.row_stride = 5, d), tensors, "row_stride = 5; want >= width = 6");
  d = dims;
  expect((d.gate_stride = 5, d), tensors, "gate_stride = 5; want >= width = 6");
  auto t = tensors;
  expect(dims, (t.eps = -0.5f, t), "eps = -0.5");
  t = tensors;
  expect(dims, (t.out = nullptr, t), "out is null");
  expect_refusal(
      [&] {
        gated_rms_norm_backward(dims, GatedRmsNormBackward<float>{.gate = x.data(), .d_weight = w.data()}, nullptr);
      },
      "gate and d_gate; want both or neither");
}

TEST(GatedRmsNormBorder, NoRowsWriteZeroWeightGradients) {
  const GatedRmsNormDims dims{.rows = 0, .width = 6, .group_size = 2, .row_stride = 6, .gate_stride = 6};
  gated_rms_norm_forward(dims, GatedRmsNormForward<float>{.eps = 1e-5f}, nullptr);
  for (const Method method : {Method::automatic, Method::naive}) {
    const TestBuffer<float> d_weight(6);
    gated_rms_norm_backward(dims, GatedRmsNormBackward<float>{.d_weight = d_weight.data()}, nullptr, method);
    EXPECT_EQ(d_weight.download(), std::vector<float>(6, 0.0f));
  }
}

// ---- the plan

TEST(GatedRmsNormPlan, SpreadsGroupsNotRows) {
  const GatedRmsNormDims dims{.rows = 10, .width = 4096, .group_size = 512, .row_stride = 4096, .gate_stride = 4096};
  EXPECT_STREQ(gated_rms_norm_variant(dims, sizeof(bf16)), "warp_per_row");
  EXPECT_EQ(gated_rms_norm::plan_forward(dims, 8, Method::automatic).blocks, 10 * 8 / 4);
  const Plan backward = gated_rms_norm::plan_backward(dims, 8, Method::automatic);
  EXPECT_EQ(backward.partials, 3);
  EXPECT_EQ(backward.blocks, 3 * 8 / 4);
}

TEST(GatedRmsNormPlan, GroupsThatNoVectorDividesAreReadByElement) {
  const GatedRmsNormDims dims{.rows = 1, .width = 1030, .group_size = 515, .row_stride = 1032, .gate_stride = 1032};
  EXPECT_STREQ(gated_rms_norm_variant(dims, sizeof(float)), "block_per_row");
}

// ---- fast against naive

struct Run {
  Method method = Method::automatic;
  std::optional<RowPlan> row;          // instead of the planned one
  std::optional<std::int64_t> blocks;  // instead of the planned number
};

// Forward, then backward with what the forward saved.
template <class T, class W>
struct Problem {
  GatedRmsNormDims dims;
  bool gated;

  struct Results {
    std::vector<T> out, d_x, d_gate;
    std::vector<float> rstd;
    std::vector<W> d_weight;
  };

  Results run(const Run& how) const {
    const auto rows = static_cast<std::size_t>(dims.rows), width = static_cast<std::size_t>(dims.width);
    const std::size_t size = rows * width, groups = static_cast<std::size_t>(dims.groups());
    const TestBuffer<T> x(test_values<T>(rows * static_cast<std::size_t>(dims.row_stride), 1));
    const TestBuffer<T> gate(test_values<T>(rows * static_cast<std::size_t>(dims.gate_stride), 2));
    const TestBuffer<T> d_out(test_values<T>(size, 3)), out(size), d_x(size), d_gate(size);
    const TestBuffer<W> weight(test_values<W>(width, 4)), d_weight(width);
    const TestBuffer<float> rstd(rows * groups), workspace(gated_rms_norm_backward_workspace(dims) / sizeof(float));
    const int vector = vector_width(sizeof(T), {dims.group_size, dims.row_stride, dims.gate_stride}, {});

    Plan plan = gated_rms_norm::plan_forward(dims, vector, how.method);
    if (how.row) plan.row = *how.row, plan.blocks = plan.row.blocks(dims.rows * dims.groups());
    if (how.blocks) plan.blocks = *how.blocks;
    gated_rms_norm::launch_forward(plan, dims,
                                   GatedRmsNormForward<T, W>{.hidden_states = x.data(),
                                                             .gate = gated ? gate.data() : nullptr,
                                                             .weight = weight.data(),
                                                             .eps = 1e-5f,
                                                             .out = out.data(),
                                                             .rstd = rstd.data()},
                                   nullptr);

    plan = gated_rms_norm::plan_backward(dims, vector, how.method);
    if (how.row) plan.row = *how.row, plan.blocks = plan.row.blocks(plan.partials * dims.groups());
    if (how.blocks) plan.blocks = *how.blocks;
    gated_rms_norm::launch_backward(plan, dims,
                                    GatedRmsNormBackward<T, W>{.hidden_states = x.data(),
                                                               .gate = gated ? gate.data() : nullptr,
                                                               .weight = weight.data(),
                                                               .rstd = rstd.data(),
                                                               .d_out = d_out.data(),
                                                               .d_hidden_states = d_x.data(),
                                                               .d_gate = gated ? d_gate.data() : nullptr,
                                                               .d_weight = d_weight.data(),
                                                               .workspace = workspace.data()},
                                    nullptr);
    return {out.download(), d_x.download(), gated ? d_gate.download() : std::vector<T>(), rstd.download(),
            d_weight.download()};
  }
};

template <class T, class W>
void expect_close(const Problem<T, W>& problem, const Run& how) {
  SCOPED_TRACE(testing::Message() << problem.dims.rows << " x " << problem.dims.width << " in groups of "
                                  << problem.dims.group_size << (problem.gated ? ", gated" : ""));
  const auto got = problem.run(how), want = problem.run({.method = Method::naive});
  EXPECT_LE(distance(got.rstd, want.rstd), tolerance<float>());
  EXPECT_LE(distance(got.out, want.out), tolerance<T>());
  EXPECT_LE(distance(got.d_x, want.d_x), tolerance<T>());
  EXPECT_LE(distance(got.d_gate, want.d_gate), tolerance<T>());
  EXPECT_LE(distance(got.d_weight, want.d_weight), tolerance<W>());
}

template <class T_, class W_>
struct Types {
  using T = T_;
  using W = W_;
};
template <class Types>
class GatedRmsNormVariants : public testing::Test {};
using AllTypes = testing::Types<Types<float, float>, Types<bf16, bf16>, Types<bf16, float>>;
TYPED_TEST_SUITE(GatedRmsNormVariants, AllTypes);

TYPED_TEST(GatedRmsNormVariants, AgreeWithTheNaiveOne) {
  using T = typename TypeParam::T;
  using W = typename TypeParam::W;
  for (const bool gated : {true, false}) {
    const auto problem = [&](std::int64_t rows, std::int64_t width, std::int64_t group, std::int64_t more = 0) {
      return Problem<T, W>{{rows, width, group, width + more, width + 2 * more}, gated};
    };
    for (const auto& p : {problem(1, 1, 1), problem(3, 6, 2), problem(7, 64, 16), problem(9, 96, 96, 8),
                          problem(2, 1030, 515, 3), problem(6, 1040, 520, 8), problem(2, 4096, 512, 128),
                          problem(3, 3072, 1024), problem(2, 6160, 6160), problem(2, 8198, 4099), problem(5, 40, 1)}) {
      expect_close(p, {});
    }
    // Fewer blocks than there are groups in all rows: every team takes several.
    expect_close(problem(11, 64, 16), {.blocks = 1});
    expect_close(problem(9, 2048, 1024), {.blocks = 1});
    // Every variant on one size, by scalars and by vectors.
    for (const int vector : {1, static_cast<int>(16 / sizeof(T))}) {
      for (const RowVariant variant :
           {RowVariant::warp_per_row, RowVariant::block_per_row, RowVariant::block_rereads_row}) {
        expect_close(problem(6, 256, 128), {.row = RowPlan{variant, vector, 64 + 32 * (vector > 1)}});
      }
    }
  }
}

TYPED_TEST(GatedRmsNormVariants, RepeatBitForBitUnderSchedulesOfOneArithmetic) {
  const Problem<typename TypeParam::T, typename TypeParam::W> problem{{7, 2048, 1024, 2048, 2048}, true};
  expect_repeats_under_schedules([&] { return problem.run({}); },
                                 [&](const auto& results, const auto& first) {
                                   EXPECT_EQ(results.rstd, first.rstd);
                                   EXPECT_EQ(distance(results.out, first.out), 0);
                                   EXPECT_EQ(distance(results.d_x, first.d_x), 0);
                                   EXPECT_EQ(distance(results.d_gate, first.d_gate), 0);
                                   EXPECT_EQ(distance(results.d_weight, first.d_weight), 0);
                                 });
}

}  // namespace
}  // namespace assay::gpu
