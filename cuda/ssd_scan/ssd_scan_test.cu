// The border, the plan, both variants against a scalar model in double. Parity with the reference is the harness's job.
#include <gtest/gtest.h>

#include <tuple>

#include "cuda/ssd_scan/plan.h"
#include "cuda/ssd_scan/testing.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

// ---- the border

TEST(SsdScanBorder, RefusesUnusableArguments) {
  const ScanProblem<float> problem{2, 5, 4, 3, 2, 4};
  const TestBuffer<float> some(4);
  const SsdScanForward<float> tensors{.x = some.data(),
                                      .dt = some.data(),
                                      .A = some.data(),
                                      .B = some.data(),
                                      .C = some.data(),
                                      .y = some.data(),
                                      .final_state = some.data()};
  const auto expect = [&](const SsdScanDims& d, const SsdScanForward<float>& t, const char* text) {
    expect_refusal([&] { ssd_scan_forward(d, t, nullptr); }, text);
  };
  using Dims = SsdScanDims;
  for (const auto& [member, value, text] : std::initializer_list<std::tuple<std::int64_t Dims::*, int, const char*>>{
           {&Dims::batch, -1, "batch = -1; want 0"},
           {&Dims::seq_len, -1, "seq_len = -1; want 0"},
           {&Dims::heads, 0, "heads = 0; want 1"},
           {&Dims::head_dim, 0, "head_dim = 0; want 1"},
           {&Dims::groups, 3, "groups = 3; want a divisor of heads = 4"},
           {&Dims::state_size, 0, "state_size = 0; want 1"},
           {&Dims::x_stride, 11, "x_stride = 11; want >= 12"},
           {&Dims::dt_stride, 3, "dt_stride = 3; want >= 4"},
           {&Dims::B_stride, 7, "B_stride = 7; want >= 8"},
           {&Dims::C_stride, 7, "C_stride = 7; want >= 8"},
           {&Dims::z_stride, 11, "z_stride = 11; want >= 12"}}) {
    Dims dims = problem.dims();
    dims.*member = value;
    expect(dims, tensors, text);
  }
  auto t = tensors;
  expect(problem.dims(), (t.y = nullptr, t), "y is null");
  t = tensors;
  expect(problem.dims(), (t.final_state = nullptr, t), "final_state is null");
  t = tensors;
  expect(problem.dims(), (t.dt_min = 2, t.dt_max = 1, t), "dt_min = 2, dt_max = 1; want dt_min <= dt_max");
  t = tensors;
  const std::int32_t boundaries[2] = {0, 5};
  t = tensors;
  t.varlen_states = some.data(), t.cu_seqlens = boundaries, t.documents = 1, t.seq_idx = boundaries;
  expect(problem.dims(), t, "batch = 2; want 1 with varlen_states");
  const auto one_row = ScanProblem<float>{1, 5, 4, 3, 2, 4}.dims();
  auto u = t;
  expect(one_row, (u.cu_seqlens = nullptr, u), "cu_seqlens is null");
  u = t;
  expect(one_row, (u.seq_idx = nullptr, u), "varlen_states with an initial_state or without seq_idx");
  u = t;
  expect(one_row, (u.initial_state = some.data(), u), "varlen_states with an initial_state or without seq_idx");
  const auto fast = ScanProblem<float>{1, 40, 1, 16, 1, 16}.dims();
  expect(fast, (t.workspace = nullptr, t), "workspace is null");
}

TEST(SsdScanBorder, NothingToDoIsFine) {
  SsdScanDims dims = ScanProblem<float>{0, 4, 4, 4, 2, 4}.dims();
  ssd_scan_forward(dims, SsdScanForward<float>{}, nullptr);

  const ScanProblem<bf16> no_tokens{2, 0, 2, 16, 1, 16, {.initial_state = true}};
  EXPECT_EQ(no_tokens.run(Method::automatic).final_state, no_tokens.inputs().initial_state);
}

// ---- the plan

TEST(SsdScanPlan, FitsEverySizeIntoTheSmallestMultiprocessor) {
  constexpr unsigned kShared = 99 * 1024;  // a block's on sm_120
  for (const std::size_t bytes : {std::size_t{2}, std::size_t{4}}) {
    for (int head_dim = 16; head_dim <= 128; head_dim += 16) {
      for (int state_size = 16; state_size <= 256; state_size += 16) {
        const ScanProblem<float> problem{1, 1000, 2, head_dim, 1, state_size};
        const auto plan = ssd_scan::plan_forward(problem.dims(), bytes, true, Method::automatic);
        ASSERT_FALSE(plan.naive);
        EXPECT_LE(plan.shared_bytes, kShared);
        EXPECT_EQ(head_dim % plan.channels, 0);
        EXPECT_GE(plan.slices * 128, state_size * static_cast<int>(bytes));
      }
    }
  }
}

TEST(SsdScanPlan, LeavesOtherSizesToThePlainVersion) {
  const auto variant = [](int seq_len, int head_dim, int state_size) {
    return std::string(ssd_scan_variant(ScanProblem<bf16>{1, seq_len, 2, head_dim, 1, state_size}.dims(), 2));
  };
  EXPECT_EQ(variant(7, 64, 128), "chunked");
  EXPECT_EQ(variant(7, 80, 256), "chunked");
  EXPECT_EQ(variant(0, 64, 128), "naive");
  EXPECT_EQ(variant(7, 24, 128), "naive");
  EXPECT_EQ(variant(7, 64, 24), "naive");
  EXPECT_EQ(variant(7, 64, 272), "naive");
  SsdScanDims odd = ScanProblem<bf16>{1, 7, 2, 64, 1, 128}.dims();
  odd.x_stride += 4;
  EXPECT_STREQ(ssd_scan_variant(odd, 2), "naive");
  EXPECT_TRUE(ssd_scan::plan_forward(ScanProblem<bf16>{1, 7, 2, 64, 1, 128}.dims(), 2, false, Method::automatic).naive);
}

TEST(SsdScanPlan, SpreadsTimeOverBlocks) {
  const ScanProblem<bf16> nano{1, 8192, 64, 64, 8, 128};
  const auto plan = ssd_scan::plan_forward(nano.dims(), 2, true, Method::automatic);
  EXPECT_EQ(plan.chunk, 128);
  EXPECT_EQ(plan.channels, 32);
  EXPECT_EQ(plan.blocks, 64 * 8);  // chunks and groups
  EXPECT_EQ(plan.states, 63 * 64 * 2);
}

// ---- values

template <class T>
class SsdScanVariants : public testing::Test {};
using AllTypes = testing::Types<float, bf16>;
TYPED_TEST_SUITE(SsdScanVariants, AllTypes);

template <class T>
void expect_the_model(const ScanProblem<T>& problem) {
  SCOPED_TRACE(testing::Message() << problem.batch << " x " << problem.seq_len << " tokens, " << problem.heads << " x "
                                  << problem.head_dim << " channels, " << problem.groups << " x "
                                  << problem.state_size);
  const auto want = problem.model();
  for (const Method method : {Method::automatic, Method::naive}) {
    const auto got = problem.run(method);
    EXPECT_LE(excess(got.y, want.y, want.y_size, problem.limit(want, 2)), 1);
    EXPECT_LE(excess(got.ungated_y, want.ungated_y, want.ungated_size, problem.limit(want, 2)), 1);
    EXPECT_LE(excess(got.final_state, want.final_state, want.state_size, problem.limit(want, 1)), 1);
    EXPECT_LE(excess(got.varlen_states, want.varlen_states, want.varlen_size, problem.limit(want, 1)), 1);
  }
}

TYPED_TEST(SsdScanVariants, AgreeWithTheModel) {
  using P = ScanProblem<TypeParam>;
  for (const P& p :
       {P{1, 1, 1, 1, 1, 1}, P{2, 5, 4, 3, 2, 8}, P{1, 1, 2, 16, 1, 16}, P{2, 37, 2, 16, 2, 16},
        P{1, 129, 4, 64, 2, 128}, P{2, 257, 2, 32, 1, 64}, P{1, 128, 1, 64, 1, 48}, P{1, 127, 2, 48, 1, 32},
        P{1, 70, 1, 80, 1, 144}, P{1, 130, 2, 32, 1, 256}, P{1, 65, 1, 128, 1, 112}}) {
    expect_the_model(p);
  }
}

TYPED_TEST(SsdScanVariants, TakeEveryOption) {
  using P = ScanProblem<TypeParam>;
  expect_the_model(P{1, 140, 4, 32, 2, 32, {.D = false, .dt_bias = false}});
  expect_the_model(P{1, 140, 4, 32, 2, 32, {.D_per_channel = true, .z = true}});
  expect_the_model(P{1, 140, 4, 32, 2, 32, {.softplus = false, .dt_min = 0.125f, .dt_max = 0.25f}});
  expect_the_model(P{2, 140, 4, 32, 2, 32, {.z = true, .strided = true, .initial_state = true}});
}

TYPED_TEST(SsdScanVariants, DropTheStateBetweenDocuments) {
  using P = ScanProblem<TypeParam>;
  expect_the_model(P{2, 300, 2, 32, 1, 32, {.initial_state = true, .documents = true}});
  expect_the_model(P{2, 300, 2, 16, 1, 16, {.documents = true}});
}

TYPED_TEST(SsdScanVariants, ReturnTheStatesAtTheEndsOfDocuments) {
  using P = ScanProblem<TypeParam>;
  for (const P& p : {P{1, 450, 2, 32, 1, 32, {.varlen = true}}, P{1, 300, 4, 16, 2, 144, {.varlen = true}},
                     P{1, 240, 1, 64, 1, 128, {.strided = true, .varlen = true}},
                     P{1, 110, 2, 48, 1, 256, {.varlen = true}}, P{1, 40, 2, 11, 1, 9, {.varlen = true}},
                     P{1, 2, 1, 16, 1, 16, {.varlen = true}}}) {
    ASSERT_GE(p.documents(), 2);
    expect_the_model(p);
  }
}

TYPED_TEST(SsdScanVariants, RepeatBitForBitUnderSchedulesOfOneArithmetic) {
  const ScanProblem<TypeParam> problem{1, 300, 4, 32, 2, 48, {.z = true, .initial_state = true, .documents = true}};
  expect_repeats_under_schedules([&] { return problem.run(Method::automatic); },
                                 [&](const auto& results, const auto& first) {
                                   EXPECT_EQ(distance(results.y, first.y), 0);
                                   EXPECT_EQ(distance(results.ungated_y, first.ungated_y), 0);
                                   EXPECT_EQ(results.final_state, first.final_state);
                                   expect_the_model(problem);
                                 });
}

}  // namespace
}  // namespace assay::gpu
