// The scan with the gate and the norm behind it: the border, the plan, the bits of the two kernels that it stands for,
// both parts against scalar models in double; and that the convolution's output and slices of in_proj's feed it in
// place.
#include <gtest/gtest.h>

#include <tuple>

#include "cuda/causal_conv1d/causal_conv1d.h"
#include "cuda/ssd_scan/normed_testing.h"
#include "cuda/ssd_scan/plan.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

TEST(SsdScanNormedBorder, RefusesUnusableArguments) {
  const auto dims = ScanProblem<float>{1, 40, 1, 16, 1, 16}.dims();
  const TestBuffer<float> some(4);
  float* const p = some.data();
  const SsdScanForward<float> scan{
      .x = p, .dt = p, .A = p, .B = p, .C = p, .y = nullptr, .final_state = p, .workspace = p};
  const SsdScanNorm<float> norm{.z = p, .weight = p, .eps = 1e-5f, .out = p};
  const auto expect = [&](const SsdScanForward<float>& s, const SsdScanNorm<float>& n, const char* text) {
    expect_refusal([&] { ssd_scan_normed_forward(dims, s, n, nullptr); }, text);
  };
  auto s = scan;
  expect((s.z = p, s), norm, "scan.z or scan.ungated_y is given");
  s = scan;
  expect((s.workspace = nullptr, s), norm, "workspace is null");
  s = scan;
  expect((s.final_state = nullptr, s), norm, "final_state is null");
  auto n = norm;
  expect(scan, (n.out = nullptr, n), "out is null");
  n = norm;
  expect(scan, (n.eps = -1, n), "eps = -1");
}

TEST(SsdScanNormedPlan, TakesTheLongestChunkWhoseRowsFit) {
  using ssd_scan::plan_normed;
  const auto planned = [](const ScanProblem<bf16>& p, std::size_t shared_memory) {
    return plan_normed(p.dims(), 2, true, Method::automatic, shared_memory);
  };
  const ScanProblem<bf16> nano{1, 1024, 64, 64, 8, 128};
  EXPECT_EQ(planned(nano, kBlockSharedMemory).chunk, 128);
  EXPECT_EQ(planned(nano, kBlockSharedMemory).blocks, 8 * 8);
  EXPECT_EQ(planned(nano, 163 * 1024).chunk, 64);                                // sm_80
  EXPECT_TRUE(planned(nano, 99 * 1024).naive);                                   // sm_120
  EXPECT_EQ(planned({1, 1024, 128, 80, 8, 128}, kBlockSharedMemory).chunk, 64);  // 1,280 channels
  EXPECT_TRUE(planned({1, 1024, 128, 96, 8, 128}, kBlockSharedMemory).naive);    // 1,536
  EXPECT_STREQ(ssd_scan_normed_variant(nano.dims(), 2), "chunked_normed");
  EXPECT_STREQ(ssd_scan_normed_variant(nano.dims(), 2, Method::naive), "scan_then_norm");
  EXPECT_STREQ(ssd_scan_normed_variant(nano.dims(), 2, Method::automatic, 99 * 1024), "scan_then_norm");
}

template <class T>
class SsdScanNormed : public testing::Test {};
using AllTypes = testing::Types<float, bf16>;
TYPED_TEST_SUITE(SsdScanNormed, AllTypes);

template <class T>
void expect_equal(const typename NormedProblem<T>::Results& got, const typename NormedProblem<T>::Results& want) {
  EXPECT_EQ(distance(got.out, want.out), 0);
  if (!got.y.empty()) {
    EXPECT_EQ(distance(got.y, want.y), 0);
  }
  EXPECT_EQ(got.rstd, want.rstd);
  EXPECT_EQ(got.final_state, want.final_state);
}

// Groups of at most 512 channels: one warp sums a token's squares in either; equal chunks.
TYPED_TEST(SsdScanNormed, HasTheBitsOfTheTwoKernels) {
  using P = NormedProblem<TypeParam>;
  for (const simt::Schedule& schedule : simt::schedules()) {
    simt::set_schedule(schedule, 3);
    for (const P& p :
         {P{{1, 130, 4, 32, 2, 32}}, P{{2, 37, 2, 16, 1, 16}}, P{{1, 300, 2, 64, 1, 128, {.strided = true}}},
          P{{1, 140, 8, 64, 1, 48, {.initial_state = true}}}, P{{2, 150, 3, 32, 1, 144, {.documents = true}}}}) {
      SCOPED_TRACE(p.scan.head_dim);
      ASSERT_STREQ(ssd_scan_normed_variant(p.scan.dims(), sizeof(TypeParam)), "chunked_normed");
      expect_equal<TypeParam>(p.run(true), p.run(false));
    }
  }
  simt::set_schedule(0, 1);
}

TYPED_TEST(SsdScanNormed, DoesNotNeedY) {
  using P = NormedProblem<TypeParam>;
  for (const P& p : {P{{1, 130, 4, 32, 2, 32}}, P{{1, 30, 4, 7, 2, 5}}}) {
    for (const Method method : {Method::automatic, Method::naive}) {
      expect_equal<TypeParam>(p.run(true, method, false), p.run(true, method, true));
    }
  }
}

// y against the scan's model, out against the norm of the y that was found: either variant, chunks that memory
// shortens, groups that a warp cannot hold in the order of the norm's own kernel.
TYPED_TEST(SsdScanNormed, AgreesWithTheModels) {
  using P = NormedProblem<TypeParam>;
  for (const P& p : {P{{1, 129, 8, 64, 1, 128}}, P{{1, 129, 8, 64, 1, 128}, 163 * 1024}, P{{1, 66, 10, 64, 1, 32}},
                     P{{1, 66, 16, 80, 1, 16}}, P{{2, 19, 4, 3, 2, 5}}, P{{1, 1, 2, 16, 2, 16}}}) {
    SCOPED_TRACE(testing::Message() << p.scan.heads << " x " << p.scan.head_dim << ", " << p.shared_memory);
    const auto model = p.scan.model();
    for (const Method method : {Method::automatic, Method::naive}) {
      const auto got = p.run(true, method);
      EXPECT_LE(excess(got.y, model.y, model.y_size, p.scan.limit(model, 2)), 1);
      EXPECT_LE(excess(got.final_state, model.final_state, model.state_size, p.scan.limit(model, 1)), 1);
      const auto norm = p.norm_of(got.y);
      for (std::size_t i = 0; i < norm.out.size(); ++i) {
        ASSERT_LE(std::abs(static_cast<double>(static_cast<float>(got.out[i])) - norm.out[i]), norm.limit[i]) << i;
      }
    }
  }
}

// in_proj's output, z | x B C | dt, goes to the convolution and on to the scan and the norm as slices, and the
// convolution's x | B | C likewise: the same bits as of copies.
TYPED_TEST(SsdScanNormed, IsFedByTheConvolutionInPlace) {
  using T = TypeParam;
  constexpr std::int64_t kBatch = 2, kTokens = 150, kHeads = 8, kHeadDim = 16, kGroups = 2, kState = 32;
  constexpr std::int64_t kInner = kHeads * kHeadDim, kKeys = kGroups * kState, kChannels = kInner + 2 * kKeys;
  constexpr std::int64_t kWidth = kInner + kChannels + kHeads, kRows = kBatch * kTokens;
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const std::vector<T> projected = test_values<T>(size(kRows * kWidth), 1);
  const auto columns = [&](const std::vector<T>& rows, std::int64_t stride, std::int64_t first, std::int64_t width) {
    std::vector<T> result;
    for (std::int64_t row = 0; row < kRows; ++row) {
      result.insert(result.end(), rows.begin() + row * stride + first, rows.begin() + row * stride + first + width);
    }
    return result;
  };
  const TestBuffer<T> rows(projected), weight(test_values<T>(size(kChannels * 4), 2)),
      w(test_values<T>(size(kInner), 3));
  const TestBuffer<float> A(std::vector<float>(size(kHeads), -0.5f)), D(test_values<float>(size(kHeads), 4));

  const auto convolve = [&](const T* x, std::int64_t stride) {
    const TestBuffer<T> out(size(kRows * kChannels));
    causal_conv1d_forward({.batch = kBatch, .seq_len = kTokens, .channels = kChannels, .taps = 4, .row_stride = stride},
                          CausalConv1dForward<T>{.in = {.hidden_states = x,
                                                        .weight = weight.data(),
                                                        .bias = nullptr,
                                                        .initial_state = nullptr,
                                                        .seq_idx = nullptr,
                                                        .silu = true},
                                                 .out = out.data(),
                                                 .final_state = nullptr},
                          nullptr);
    return out.download();
  };
  const TestBuffer<T> xBC_copied(columns(projected, kWidth, kInner, kChannels));
  const std::vector<T> convolved = convolve(rows.data() + kInner, kWidth);
  EXPECT_EQ(distance(convolved, convolve(xBC_copied.data(), kChannels)), 0);

  const auto scan = [&](SsdScanDims d, const T* x, const T* B, const T* C, const T* z, const T* dt) {
    d.batch = kBatch, d.seq_len = kTokens, d.heads = kHeads, d.head_dim = kHeadDim, d.groups = kGroups,
    d.state_size = kState;
    EXPECT_STREQ(ssd_scan_normed_variant(d, sizeof(T)), "chunked_normed");
    const TestBuffer<T> out(size(kRows * kInner));
    const TestBuffer<float> last(size(kBatch * kInner * kState));
    const TestBuffer<unsigned char> workspace(ssd_scan_normed_workspace(d, sizeof(T)));
    ssd_scan_normed_forward(d,
                            SsdScanForward<T>{.x = x,
                                              .dt = dt,
                                              .A = A.data(),
                                              .B = B,
                                              .C = C,
                                              .D = D.data(),
                                              .y = nullptr,
                                              .final_state = last.data(),
                                              .workspace = workspace.data()},
                            SsdScanNorm<T>{.z = z, .weight = w.data(), .eps = 1e-5f, .out = out.data()}, nullptr);
    return std::pair(out.download(), last.download());
  };
  const TestBuffer<T> xBC(convolved), x(columns(convolved, kChannels, 0, kInner)),
      B(columns(convolved, kChannels, kInner, kKeys)), C(columns(convolved, kChannels, kInner + kKeys, kKeys)),
      z(columns(projected, kWidth, 0, kInner)), dt(columns(projected, kWidth, kInner + kChannels, kHeads));
  const auto in_place = scan(
      {.x_stride = kChannels, .dt_stride = kWidth, .B_stride = kChannels, .C_stride = kChannels, .z_stride = kWidth},
      xBC.data(), xBC.data() + kInner, xBC.data() + kInner + kKeys, rows.data(), rows.data() + kInner + kChannels);
  const auto of_copies =
      scan({.x_stride = kInner, .dt_stride = kHeads, .B_stride = kKeys, .C_stride = kKeys, .z_stride = kInner},
           x.data(), B.data(), C.data(), z.data(), dt.data());
  EXPECT_EQ(distance(in_place.first, of_copies.first), 0);
  EXPECT_EQ(in_place.second, of_copies.second);
}

}  // namespace
}  // namespace assay::gpu
