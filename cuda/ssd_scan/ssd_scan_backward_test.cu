// Backward: the border, the plan, every variant against a scalar model in double. Parity with the reference is the
// harness's job.
#include <gtest/gtest.h>

#include "cuda/ssd_scan/backward_plan.h"
#include "cuda/ssd_scan/backward_testing.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

// ---- the border

TEST(SsdScanBackwardBorder, RefusesUnusableArguments) {
  const ScanBackwardProblem<float> problem{2, 5, 4, 3, 2, 4};
  const TestBuffer<float> some(4);
  float* const p = some.data();
  using Tensors = SsdScanBackward<float>;
  const Tensors tensors{.x = p,
                        .dt = p,
                        .A = p,
                        .B = p,
                        .C = p,
                        .d_y = p,
                        .strides = problem.strides(),
                        .d_x = p,
                        .d_dt = p,
                        .d_B = p,
                        .d_C = p,
                        .d_A = p,
                        .workspace = p};
  const auto expect = [&](auto change, const char* text) {
    SsdScanDims d = problem.dims();
    Tensors t = tensors;
    change(d, t);
    expect_refusal([&] { ssd_scan_backward(d, t, nullptr); }, text);
  };
  using Dims = SsdScanDims;
  expect([](Dims& d, Tensors&) { d.groups = 3; }, "groups = 3; want a divisor of heads = 4");
  expect([](Dims&, Tensors& t) { t.strides.x = 11; }, "the stride of d_x = 11; want >= 12");
  expect([](Dims&, Tensors& t) { t.strides.dt = 3; }, "the stride of d_dt = 3; want >= 4");
  expect([](Dims&, Tensors& t) { t.strides.B = 7; }, "the stride of d_B = 7; want >= 8");
  expect([](Dims&, Tensors& t) { t.strides.C = 7; }, "the stride of d_C = 7; want >= 8");
  expect([&](Dims&, Tensors& t) { t.z = p, t.strides.z = 11; }, "the stride of d_z = 11; want >= 12");
  expect([](Dims&, Tensors& t) { t.d_y = nullptr; }, "d_y is null");
  expect([](Dims&, Tensors& t) { t.d_C = nullptr; }, "d_C is null");
  expect([](Dims&, Tensors& t) { t.d_A = nullptr; }, "d_A is null");
  expect([&](Dims&, Tensors& t) { t.z = p; }, "ungated_y or d_z is null");
  expect([&](Dims&, Tensors& t) { t.D = p; }, "d_D is null");
  expect([&](Dims&, Tensors& t) { t.dt_bias = p; }, "d_dt_bias is null");
  expect([&](Dims&, Tensors& t) { t.d_initial_state = p; }, "d_initial_state without an initial_state");
  expect([](Dims&, Tensors& t) { t.dt_min = 2, t.dt_max = 1; }, "dt_min = 2, dt_max = 1; want dt_min <= dt_max");
  expect([](Dims&, Tensors& t) { t.workspace = nullptr; }, "workspace is null");
}

TEST(SsdScanBackwardBorder, NoTokensPassTheStateThrough) {
  const ScanBackwardProblem<float> problem{2, 0, 2, 16, 1, 16, {.initial_state = true}};
  const auto got = problem.run(Method::automatic);
  EXPECT_EQ(got.d_initial_state, problem.incoming().d_final_state);
  EXPECT_EQ(got.d_A, std::vector<float>(2));
  EXPECT_EQ(got.d_D, std::vector<float>(2));
  EXPECT_EQ(got.d_dt_bias, std::vector<float>(2));
  const auto none = ScanBackwardProblem<bf16>{0, 4, 2, 16, 1, 16}.run(Method::automatic);
  EXPECT_EQ(none.d_A, std::vector<float>(2));
}

TEST(SsdScanBackwardBorder, ChunksWantAlignedTensors) {
  const ScanBackwardProblem<bf16> problem{1, 5, 1, 16, 1, 16};
  const TestBuffer<bf16> some(8);
  const TestBuffer<float> floats(4);
  bf16* const p = some.data();
  SsdScanBackward<bf16> t{.x = p,
                          .dt = floats.data(),
                          .A = floats.data(),
                          .B = p,
                          .C = p,
                          .d_y = p,
                          .strides = problem.strides(),
                          .d_x = p,
                          .d_dt = p,
                          .d_B = p,
                          .d_C = p,
                          .d_A = floats.data(),
                          .workspace = p};
  t.d_B = p + 1;
  expect_refusal([&] { ssd_scan_backward(problem.dims(), t, nullptr); }, "d_B is not 16-byte aligned");
}

// ---- the plan

TEST(SsdScanBackwardPlan, FitsEverySizeIntoTheSmallestMultiprocessor) {
  constexpr unsigned kShared = 99 * 1024;  // a block's on sm_120
  for (const std::size_t bytes : {std::size_t{2}, std::size_t{4}}) {
    for (const int state_size : {16, 128, 144, 256}) {
      const ScanBackwardProblem<float> problem{1, 1000, 2, 80, 1, state_size};
      const auto plan = ssd_scan::plan_backward(problem.dims(), problem.strides(), bytes, Method::automatic);
      ASSERT_FALSE(plan.naive);
      EXPECT_LE(plan.shared_bytes, kShared);
      EXPECT_LE(plan.states_shared_bytes, kShared);
    }
  }
}

TEST(SsdScanBackwardPlan, LeavesOtherSizesToThePlainVersion) {
  const auto variant = [](int seq_len, int head_dim, int state_size, auto change) {
    const ScanBackwardProblem<bf16> problem{1, seq_len, 2, head_dim, 1, state_size};
    SsdScanDims dims = problem.dims();
    SsdScanGradientStrides strides = problem.strides();
    change(dims, strides);
    return std::string(ssd_scan_backward_variant(dims, strides, 2));
  };
  const auto same = [](SsdScanDims&, SsdScanGradientStrides&) {};
  EXPECT_EQ(variant(7, 64, 128, same), "chunked");
  EXPECT_EQ(variant(7, 80, 256, same), "chunked");
  EXPECT_EQ(variant(0, 64, 128, same), "naive");
  EXPECT_EQ(variant(7, 24, 128, same), "naive");
  EXPECT_EQ(variant(7, 64, 24, same), "naive");
  EXPECT_EQ(variant(7, 64, 272, same), "naive");
  EXPECT_EQ(variant(7, 64, 128, [](SsdScanDims& d, SsdScanGradientStrides&) { d.x_stride += 4; }), "naive");
  EXPECT_EQ(variant(7, 64, 128, [](SsdScanDims&, SsdScanGradientStrides& s) { s.B += 4; }), "naive");
}

TEST(SsdScanBackwardPlan, SpreadsTimeOverBlocks) {
  const ScanBackwardProblem<bf16> nano{1, 8192, 64, 64, 8, 128};
  const auto plan = ssd_scan::plan_backward(nano.dims(), nano.strides(), 2, Method::automatic);
  EXPECT_EQ(plan.chunk, 64);
  EXPECT_EQ(plan.channels, 64);
  EXPECT_EQ(plan.tiles, 64);        // of two directions
  EXPECT_EQ(plan.blocks, 128 * 8);  // chunks and groups
  EXPECT_EQ(ssd_scan_backward_workspace(nano.dims(), nano.strides(), 2),
            2 * 128 * 64 * 64 * 128 * 2 + 128 * 64 * 66 * 4);
}

// ---- values

template <class T>
class SsdScanBackwardVariants : public testing::Test {};
using AllTypes = testing::Types<float, bf16>;
TYPED_TEST_SUITE(SsdScanBackwardVariants, AllTypes);

template <class T>
void expect_the_model(const ScanBackwardProblem<T>& problem,
                      std::initializer_list<Method> methods = {Method::automatic, Method::naive}) {
  SCOPED_TRACE(testing::Message() << problem.batch << " x " << problem.seq_len << " tokens, " << problem.heads << " x "
                                  << problem.head_dim << " channels, " << problem.groups << " x "
                                  << problem.state_size);
  const auto want = problem.model();
  const auto &v = want.value, &s = want.size;
  for (const Method method : methods) {
    SCOPED_TRACE(method == Method::naive ? "naive" : "automatic");
    const auto got = problem.run(method);
    // The roundings: of a product's weights (G L, M summed, U B or E C) and of a state or its gradient.
    EXPECT_LE(excess(got.d_x, v.d_x, s.d_x, problem.limit(want, 2)), 1);
    EXPECT_LE(excess(got.d_B, v.d_B, s.d_B, problem.limit(want, 2)), 1);
    EXPECT_LE(excess(got.d_C, v.d_C, s.d_C, problem.limit(want, 2)), 1);
    EXPECT_LE(excess(got.d_z, v.d_z, s.d_z, problem.float_limit(want)), 1);
    EXPECT_LE(excess(got.d_dt, v.d_dt, s.d_dt, problem.limit(want, 4)), 1);  // a state times a gradient of one
    EXPECT_LE(excess(got.d_A, v.d_A, s.d_A, problem.limit(want, 4)), 1);
    EXPECT_LE(excess(got.d_dt_bias, v.d_dt_bias, s.d_dt_bias, problem.limit(want, 4)), 1);
    EXPECT_LE(excess(got.d_D, v.d_D, s.d_D, problem.float_limit(want)), 1);  // d_y silu(z) is not rounded here
    EXPECT_LE(excess(got.d_initial_state, v.d_initial_state, s.d_initial_state, problem.limit(want, 2)), 1);
  }
}

TYPED_TEST(SsdScanBackwardVariants, AgreeWithTheModel) {
  using P = ScanBackwardProblem<TypeParam>;
  for (const P& p : {P{1, 1, 1, 1, 1, 1}, P{2, 5, 4, 3, 2, 8}, P{1, 1, 2, 16, 1, 16}, P{2, 37, 2, 16, 2, 16},
                     P{1, 129, 4, 64, 2, 64}, P{2, 150, 2, 32, 1, 64}, P{1, 64, 1, 64, 1, 48}, P{1, 63, 2, 48, 1, 32},
                     P{1, 70, 1, 80, 1, 144}, P{1, 70, 2, 32, 1, 256}, P{1, 65, 1, 128, 1, 112}}) {
    expect_the_model(p);
  }
}

TYPED_TEST(SsdScanBackwardVariants, TakeEveryOption) {
  using P = ScanBackwardProblem<TypeParam>;
  expect_the_model(P{1, 140, 4, 32, 2, 32, {.D = false, .dt_bias = false}, false});
  expect_the_model(P{1, 140, 4, 32, 2, 32, {.D_per_channel = true, .z = true}});
  expect_the_model(P{1, 140, 4, 32, 4, 32, {.softplus = false, .dt_min = 0.125f, .dt_max = 0.25f}});
  expect_the_model(P{2, 140, 4, 32, 1, 32, {.z = true, .strided = true, .initial_state = true}});
}

TYPED_TEST(SsdScanBackwardVariants, DropTheStateBetweenDocuments) {
  using P = ScanBackwardProblem<TypeParam>;
  expect_the_model(P{2, 200, 2, 32, 1, 32, {.initial_state = true, .documents = true}});
  expect_the_model(P{2, 200, 2, 16, 1, 16, {.documents = true}});
}

TYPED_TEST(SsdScanBackwardVariants, RepeatBitForBitUnderSchedulesOfOneArithmetic) {
  const ScanBackwardProblem<TypeParam> problem{
      1, 150, 4, 32, 2, 48, {.z = true, .initial_state = true, .documents = true}};
  expect_repeats_under_schedules([&] { return problem.run(Method::automatic); },
                                 [&](const auto& results, const auto& first) {
                                   EXPECT_EQ(distance(results.d_x, first.d_x), 0);
                                   EXPECT_EQ(distance(results.d_B, first.d_B), 0);
                                   EXPECT_EQ(distance(results.d_C, first.d_C), 0);
                                   EXPECT_EQ(distance(results.d_z, first.d_z), 0);
                                   EXPECT_EQ(results.d_dt, first.d_dt);
                                   EXPECT_EQ(results.d_A, first.d_A);
                                   EXPECT_EQ(results.d_D, first.d_D);
                                   EXPECT_EQ(results.d_dt_bias, first.d_dt_bias);
                                   EXPECT_EQ(results.d_initial_state, first.d_initial_state);
                                   expect_the_model(problem, {Method::automatic});
                                 });
}

}  // namespace
}  // namespace assay::gpu
