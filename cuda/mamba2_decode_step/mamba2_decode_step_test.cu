// The border, the plan, both variants against a scalar model in double, and the bits of the three kernels that the step
// stands for. Parity with the reference is the harness's job.
#include <gtest/gtest.h>

#include <tuple>

#include "cuda/common/vec.cuh"
#include "cuda/mamba2_decode_step/mamba2_decode_step.cuh"
#include "cuda/mamba2_decode_step/testing.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

// ---- the border

TEST(Mamba2DecodeStepBorder, RefusesUnusableArguments) {
  const DecodeProblem<float, float> problem{2, 4, 3, 2, 4};
  const TestBuffer<float> some(4);
  float* const p = some.data();
  const Mamba2DecodeStep<float, float> tensors{.projected = p,
                                               .conv_weight = p,
                                               .dt_bias = p,
                                               .A = p,
                                               .D = p,
                                               .norm_weight = p,
                                               .eps = 1e-5f,
                                               .conv_state = p,
                                               .state = p,
                                               .out = p};
  using Dims = Mamba2DecodeStepDims;
  for (const auto& [member, value, text] : std::initializer_list<std::tuple<std::int64_t Dims::*, int, const char*>>{
           {&Dims::batch, -1, "batch = -1; want 0"},
           {&Dims::heads, 0, "heads = 0; want 1"},
           {&Dims::head_dim, 0, "head_dim = 0; want 1"},
           {&Dims::groups, 3, "groups = 3; want a divisor of heads = 4"},
           {&Dims::state_size, 0, "state_size = 0; want 1"},
           {&Dims::taps, 0, "taps = 0; want 1"},
           {&Dims::conv_len, 2, "conv_len = 2; want 3"},
           {&Dims::row_stride, 43, "row_stride = 43; want >= 44"}}) {
    Dims dims = problem.dims();
    dims.*member = value;
    expect_refusal([&] { mamba2_decode_step(dims, tensors, nullptr); }, text);
  }
  auto t = tensors;
  expect_refusal([&] { mamba2_decode_step(problem.dims(), (t.out = nullptr, t), nullptr); }, "out is null");
  t = tensors;
  expect_refusal([&] { mamba2_decode_step(problem.dims(), (t.eps = NAN, t), nullptr); }, "eps = ");
}

TEST(Mamba2DecodeStepBorder, AnEmptyBatchIsFine) {
  const auto dims = DecodeProblem<float, float>{0, 4, 3, 2, 4}.dims();
  mamba2_decode_step(dims, Mamba2DecodeStep<float, float>{.eps = 1e-5f}, nullptr);
}

// ---- the plan

TEST(Mamba2DecodeStepPlan, IsABlockForEachGroupWhere16ByteAccessesFit) {
  using mamba2_decode_step_plan::plan;
  const auto planned = [](const DecodeProblem<bf16, float>& p, std::size_t state_bytes) {
    return plan(p.dims(), 2, state_bytes, true, Method::automatic);
  };
  const DecodeProblem<bf16, float> nano{3, 64, 64, 8, 128};
  EXPECT_EQ(planned(nano, 4).blocks, 3 * 8);
  EXPECT_EQ(planned(nano, 4).vectors, 4);
  EXPECT_EQ(planned(nano, 2).vectors, 2);
  EXPECT_EQ(planned(nano, 4).norm_threads, 32);
  EXPECT_EQ(planned({1, 128, 80, 8, 128}, 4).norm_threads, 96);
  EXPECT_LE(planned({1, 64, 64, 1, 256}, 4).shared_bytes, 48u * 1024);  // 4,096 channels in a group
  EXPECT_TRUE(planned({1, 65, 64, 1, 256}, 4).naive);
  EXPECT_TRUE(planned({1, 64, 64, 8, 260}, 4).naive);
  EXPECT_FALSE(planned({1, 64, 64, 8, 12}, 4).naive);
  EXPECT_TRUE(planned({1, 64, 64, 8, 12}, 2).naive);  // 24 bytes
  EXPECT_TRUE(planned({1, 2, 6, 1, 16}, 4).naive);    // 24 bytes of z
  EXPECT_TRUE(planned({1, 64, 64, 8, 128, {.conv_len = 3}}, 4).naive);
  EXPECT_TRUE(planned({1, 64, 64, 8, 128, {.taps = 3}}, 4).naive);
  EXPECT_TRUE(plan(nano.dims(), 2, 4, false, Method::automatic).naive);
  EXPECT_STREQ(mamba2_decode_step_variant(nano.dims(), 2, 4), "block_per_group");
  EXPECT_STREQ(mamba2_decode_step_variant(nano.dims(), 2, 4, Method::naive), "naive");
}

// ---- values

template <class Types>
class Mamba2DecodeStepVariants : public testing::Test {};
using AllTypes =
    testing::Types<std::tuple<float, float>, std::tuple<float, bf16>, std::tuple<bf16, float>, std::tuple<bf16, bf16>>;
TYPED_TEST_SUITE(Mamba2DecodeStepVariants, AllTypes);

template <class T, class S>
std::string describe(const DecodeProblem<T, S>& p) {
  return testing::PrintToString(std::tuple(p.batch, p.heads, p.head_dim, p.groups, p.state_size, p.options.taps));
}

template <class T, class S>
void expect_the_model(const DecodeProblem<T, S>& problem) {
  SCOPED_TRACE(describe(problem));
  const auto want = problem.model();
  for (const Method method : {Method::automatic, Method::naive}) {
    const auto got = problem.run(method);
    EXPECT_LE(excess(got.out, want.out, want.out_limit), 1);
    EXPECT_LE(excess(got.state, want.state, want.state_limit), 1);
    EXPECT_EQ(distance(got.conv_state, want.conv_state), 0);
  }
}

// Sizes of both variants: rows that fill no warp, heads that meet within a step of a warp, several steps, more than one
// warp to norm a group.
template <class T, class S>
std::vector<DecodeProblem<T, S>> problems() {
  return {{1, 1, 8, 1, 8},   {2, 4, 4, 2, 16},   {2, 4, 64, 2, 128}, {1, 2, 40, 2, 256},
          {2, 2, 80, 1, 48}, {1, 2, 128, 1, 24}, {1, 8, 72, 1, 16},  {1, 1, 5, 1, 260},
          {2, 3, 7, 3, 13},  {3, 6, 24, 3, 32},  {1, 1, 1, 1, 1},    {1, 40, 16, 2, 136}};
}

TYPED_TEST(Mamba2DecodeStepVariants, AgreeWithTheModel) {
  for (const auto& p : problems<std::tuple_element_t<0, TypeParam>, std::tuple_element_t<1, TypeParam>>()) {
    expect_the_model(p);
  }
}

TYPED_TEST(Mamba2DecodeStepVariants, TakeEveryOption) {
  using P = DecodeProblem<std::tuple_element_t<0, TypeParam>, std::tuple_element_t<1, TypeParam>>;
  expect_the_model(P{2, 4, 20, 2, 32, {.bias = false}});
  expect_the_model(P{5, 4, 20, 2, 32, {.strided = true, .padded = true}});
  expect_the_model(P{5, 4, 9, 2, 13, {.strided = true, .padded = true}});
  for (const auto& [taps, conv_len] : {std::pair{1, 0}, {2, 2}, {3, 2}, {4, 3}, {4, 6}, {5, 5}}) {
    expect_the_model(P{2, 2, 12, 1, 16, {.taps = taps, .conv_len = conv_len}});
  }
}

// The same orders of sums, the same roundings.
TYPED_TEST(Mamba2DecodeStepVariants, HasTheBitsOfTheThreeKernels) {
  using T = std::tuple_element_t<0, TypeParam>;
  using S = std::tuple_element_t<1, TypeParam>;
  for (const simt::Schedule& schedule : simt::schedules()) {
    simt::set_schedule(schedule, 5);
    for (const auto& p : problems<T, S>()) {
      if (mamba2_decode_step_plan::plan(p.dims(), sizeof(T), sizeof(S), true, Method::automatic).naive) continue;
      SCOPED_TRACE(describe(p));
      const auto got = p.run(Method::automatic), want = p.run_three_kernels();
      EXPECT_EQ(distance(got.conv_state, want.conv_state), 0);
      EXPECT_EQ(distance(got.state, want.state), 0);
      EXPECT_EQ(distance(got.out, want.out), 0);
    }
  }
  simt::set_schedule(0, 1);
}

TYPED_TEST(Mamba2DecodeStepVariants, RepeatBitForBitUnderSchedulesOfOneArithmetic) {
  const DecodeProblem<std::tuple_element_t<0, TypeParam>, std::tuple_element_t<1, TypeParam>> problem{3, 4, 40, 2, 128};
  expect_repeats_under_schedules([&] { return problem.run(Method::automatic); },
                                 [&](const auto& results, const auto& first) {
                                   EXPECT_EQ(distance(results.out, first.out), 0);
                                   EXPECT_EQ(distance(results.state, first.state), 0);
                                 });
}

TYPED_TEST(Mamba2DecodeStepVariants, PaddedRowsLeaveTheCachesAlone) {
  using P = DecodeProblem<std::tuple_element_t<0, TypeParam>, std::tuple_element_t<1, TypeParam>>;
  const P problem{2, 4, 16, 2, 32, {.padded = true}};  // row 0 uses the caches' row 3, row 1 none
  const auto before = problem.inputs();
  const auto after = problem.run(Method::automatic);
  const auto inner = static_cast<std::size_t>(problem.dims().inner());
  for (std::size_t i = 0; i < inner; ++i) EXPECT_EQ(to_float(after.out[inner + i]), 0.0f);
  const auto untouched = [&](const auto& was, const auto& is) {
    for (std::size_t i = 0; i < was.size() * 3 / 4; ++i) ASSERT_EQ(to_float(was[i]), to_float(is[i])) << i;
  };
  untouched(before.state, after.state);
  untouched(before.conv_state, after.conv_state);
}

}  // namespace
}  // namespace assay::gpu
