// The border, and every product against sums in double. Parity with the reference is the harness's job.
#include <gtest/gtest.h>

#include "cuda/common/testing.h"
#include "cuda/gemm/gemm.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

template <class T>
double value(const std::vector<T>& values, std::int64_t i) {
  return static_cast<double>(static_cast<float>(values[static_cast<std::size_t>(i)]));
}
std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }

// The largest |got - want| over its limit: half an ulp of T, and for each of `terms` terms of `size` a product and a
// sum that each err by 2^-24 of what has gathered.
struct Excess {
  double worst = 0;
  template <class T>
  void add(T got, double want, double size, std::int64_t terms) {
    const double rounding = sizeof(T) == 2 ? 0x1p-8 : 0x1p-24;
    const double limit = (1 + rounding) * rounding * std::abs(want) + static_cast<double>(terms + 1) * 0x1p-24 * size;
    const double error = std::abs(static_cast<double>(static_cast<float>(got)) - want);
    worst = std::isnan(error) ? HUGE_VAL : std::max(worst, limit > 0 ? error / limit : error == 0 ? 0 : HUGE_VAL);
  }
};

template <class T>
class Linear : public testing::Test {};
using Types = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Linear, Types);

constexpr LinearDims kSizes[] = {{1, 1, 1, 1, 1},         {2, 3, 5, 3, 5},        {7, 31, 33, 35, 40},
                                 {32, 128, 32, 128, 32},  {33, 129, 31, 129, 31}, {65, 127, 64, 130, 70},
                                 {129, 32, 196, 32, 196}, {1, 300, 97, 300, 97},  {200, 16, 40, 24, 48}};

TYPED_TEST(Linear, ForwardIsTheSumRoundedOnce) {
  using T = TypeParam;
  for (const LinearDims& d : kSizes) {
    for (const bool with_bias : {false, true}) {
      SCOPED_TRACE(testing::Message() << d.rows << " x " << d.in_features << " x " << d.out_features);
      const auto x = test_values<T>(count(d.rows * d.x_stride), 1),
                 w = test_values<T>(count(d.out_features * d.in_features), 2),
                 bias = test_values<T>(count(d.out_features), 3),
                 untouched = test_values<T>(count(d.rows * d.y_stride), 4);
      const TestBuffer<T> device_x(x), device_w(w), device_bias(bias), y(untouched);
      const TestBuffer<char> workspace(linear_forward_workspace());
      linear_forward<T>(
          d, {device_x.data(), device_w.data(), with_bias ? device_bias.data() : nullptr, y.data(), workspace.data()},
          nullptr);
      const auto got = y.download();
      Excess excess;
      for (std::int64_t i = 0; i < d.rows; ++i) {
        for (std::int64_t j = 0; j < d.y_stride; ++j) {
          const std::int64_t at = i * d.y_stride + j;
          if (j >= d.out_features) {
            EXPECT_EQ(value(got, at), value(untouched, at)) << "written between the rows of y";
            continue;
          }
          double want = with_bias ? value(bias, j) : 0, size = std::abs(want);
          for (std::int64_t k = 0; k < d.in_features; ++k) {
            const double term = value(x, i * d.x_stride + k) * value(w, j * d.in_features + k);
            want += term, size += std::abs(term);
          }
          excess.add(got[count(at)], want, size, d.in_features);
        }
      }
      EXPECT_LE(excess.worst, 1);
    }
  }
}

TYPED_TEST(Linear, BackwardIsTheTwoProductsAndTheColumnSum) {
  using T = TypeParam;
  for (const LinearDims& d : kSizes) {
    SCOPED_TRACE(testing::Message() << d.rows << " x " << d.in_features << " x " << d.out_features);
    const auto x = test_values<T>(count(d.rows * d.x_stride), 1),
               w = test_values<T>(count(d.out_features * d.in_features), 2),
               d_y = test_values<T>(count(d.rows * d.y_stride), 3);
    const TestBuffer<T> device_x(x), device_w(w), device_d_y(d_y), d_x(count(d.rows * d.in_features)), d_w(w.size()),
        d_bias(count(d.out_features));
    const TestBuffer<char> workspace(linear_backward_workspace(d));
    linear_backward<T>(
        d,
        {device_x.data(), device_w.data(), device_d_y.data(), d_x.data(), d_w.data(), d_bias.data(), workspace.data()},
        nullptr);
    const auto got_x = d_x.download(), got_w = d_w.download(), got_bias = d_bias.download();
    Excess excess;
    for (std::int64_t k = 0; k < d.in_features; ++k) {
      for (std::int64_t i = 0; i < d.rows; ++i) {
        double want = 0, size = 0;
        for (std::int64_t j = 0; j < d.out_features; ++j) {
          const double term = value(d_y, i * d.y_stride + j) * value(w, j * d.in_features + k);
          want += term, size += std::abs(term);
        }
        excess.add(got_x[count(i * d.in_features + k)], want, size, d.out_features);
      }
      for (std::int64_t j = 0; j < d.out_features; ++j) {
        double want = 0, size = 0;
        for (std::int64_t i = 0; i < d.rows; ++i) {
          const double term = value(d_y, i * d.y_stride + j) * value(x, i * d.x_stride + k);
          want += term, size += std::abs(term);
        }
        excess.add(got_w[count(j * d.in_features + k)], want, size, d.rows);
      }
    }
    for (std::int64_t j = 0; j < d.out_features; ++j) {
      double want = 0, size = 0;
      for (std::int64_t i = 0; i < d.rows; ++i)
        want += value(d_y, i * d.y_stride + j), size += std::abs(value(d_y, i * d.y_stride + j));
      excess.add(got_bias[count(j)], want, size, d.rows);
    }
    EXPECT_LE(excess.worst, 1);
  }
}

// Odd numbers whose sum needs 22 bits: a bfloat16 or fp16 accumulator, and a second rounding, show.
TEST(LinearExact, SumsOfIntegersAreExactInFloat) {
  const LinearDims d{3, 513, 9, 513, 9};
  std::vector<bf16> x(count(3 * 513)), w(count(9 * 513));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = bf16(static_cast<float>(2 * static_cast<int>(i % 61) + 1));
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = bf16(static_cast<float>(2 * static_cast<int>(i % 43) + 1));
  std::vector<float> xf, wf;
  for (const bf16 v : x) xf.push_back(static_cast<float>(v));
  for (const bf16 v : w) wf.push_back(static_cast<float>(v));
  const TestBuffer<bf16> dx(x), dw(w), y(27);
  const TestBuffer<float> dxf(xf), dwf(wf), yf(27);
  linear_forward<bf16>(d, {dx.data(), dw.data(), nullptr, y.data(), nullptr}, nullptr);
  linear_forward<float>(d, {dxf.data(), dwf.data(), nullptr, yf.data(), nullptr}, nullptr);
  const auto got = y.download();
  const auto in_float = yf.download();
  for (std::int64_t i = 0; i < 3; ++i) {
    for (std::int64_t j = 0; j < 9; ++j) {
      std::int64_t want = 0;
      for (std::int64_t k = 0; k < 513; ++k)
        want += static_cast<std::int64_t>(xf[count(i * 513 + k)]) * static_cast<std::int64_t>(wf[count(j * 513 + k)]);
      ASSERT_LT(want, 1 << 24);
      ASSERT_GT(want, 1 << 12);
      EXPECT_EQ(in_float[count(i * 9 + j)], static_cast<float>(want));
      EXPECT_EQ(static_cast<float>(got[count(i * 9 + j)]), static_cast<float>(bf16(static_cast<float>(want))));
    }
  }
}

TEST(LinearBorder, NoRowsGiveNoOutputAndZeroGradients) {
  const LinearDims d{0, 5, 7, 5, 7};
  const TestBuffer<float> w(test_values<float>(35, 1)), d_w(35), d_bias(7);
  linear_forward<float>(d, {nullptr, w.data(), nullptr, nullptr, nullptr}, nullptr);
  linear_backward<float>(d, {nullptr, w.data(), nullptr, nullptr, d_w.data(), d_bias.data(), nullptr}, nullptr);
  EXPECT_EQ(d_w.download(), std::vector<float>(35));
  EXPECT_EQ(d_bias.download(), std::vector<float>(7));
}

TEST(LinearBorder, RefusesWhatItCannotUse) {
  const TestBuffer<float> t(64);
  const auto forward = [&](LinearDims d, const float* x) {
    linear_forward<float>(d, {x, t.data(), nullptr, t.data(), t.data()}, nullptr);
  };
  expect_refusal([&] { forward({-1, 2, 2, 2, 2}, t.data()); }, "linear_forward: rows = -1; want 0 .. 2^30");
  expect_refusal([&] { forward({1, 0, 2, 2, 2}, t.data()); }, "in_features = 0; want 1");
  expect_refusal([&] { forward({1, 2, 2, 1, 2}, t.data()); }, "x_stride = 1; want 2");
  expect_refusal([&] { forward({1, 2, 2, 2, 1}, t.data()); }, "y_stride = 1; want 2");
  expect_refusal([&] { forward({1, 2, 2, 2, 2}, nullptr); }, "x, weight or y is null");
  expect_refusal(
      [&] {
        linear_backward<float>({1, 2, 2, 2, 2}, {t.data(), t.data(), nullptr, t.data(), nullptr, nullptr, t.data()},
                               nullptr);
      },
      "x, weight or d_y is null");
  expect_refusal(
      [&] {
        linear_backward<float>({1, 2, 2, 2, 2}, {t.data(), t.data(), t.data(), t.data(), nullptr, nullptr, nullptr},
                               nullptr);
      },
      "workspace is null");
}

}  // namespace
}  // namespace assay::gpu
