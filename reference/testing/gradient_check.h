// Finite differences in double, and the adjoint test.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "reference/sums.h"
#include "reference/testing/random.h"

namespace assay::reference::testing {

// At least eight entries of a tensor: the first, the last, the given ones, and others spread evenly between.
inline std::vector<Index> entries_to_check(Index size, std::vector<Index> wanted = {}) {
  const Index even = std::min<Index>(size, 8);
  for (Index i = 0; i < even; ++i) wanted.push_back(even == 1 ? 0 : i * (size - 1) / (even - 1));
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  return wanted;
}

// Compares d_x, the gradient of loss() with respect to x, with central differences of fourth order at the given entries.
// The step's own error is h^4 of the fifth derivative plus 2^-52 |loss| / h: h = 1e-3 keeps both near 1e-12 of the loss. So
// 1e-6 of the largest gradient, or 1e-10 of the loss where the gradient vanishes, leaves room for the curvature alone.
template <class Loss>
void expect_gradient(const std::string& name, Tensor<double>& x, const Tensor<double>& d_x, const Loss& loss,
                     std::vector<Index> wanted = {}, double step = 1e-3) {
  ASSERT_EQ(x.shape(), d_x.shape()) << name;
  double largest = 0;
  for (double g : d_x.span()) largest = std::max(largest, std::fabs(g));
  const double limit = std::max(1e-6 * largest, 1e-10 * std::fabs(loss()));
  for (Index i : entries_to_check(x.size(), std::move(wanted))) {
    const double middle = x[i];
    const auto at = [&](double offset) {
      x[i] = middle + offset;
      return loss();
    };
    const double difference = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
    x[i] = middle;
    EXPECT_NEAR(d_x[i], difference, limit) << name << "[" << i << "], largest gradient " << largest;
  }
}

inline double inner(const Tensor<double>& a, const Tensor<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  return dot(a.data(), b.data(), a.size());
}

// The derivative of loss() along one random direction through all the tensors at once against their gradients' part of it:
// what the entries that expect_gradient leaves out would spoil.
struct WithGradient {
  Tensor<double>& x;
  const Tensor<double>& d_x;
};
template <class Loss>
void expect_adjoint(const std::vector<WithGradient>& tensors, const Loss& loss, double step = 1e-4) {
  Random random(17);
  std::vector<Tensor<double>> kept, directions;
  double wanted = 0, squares = 0;
  for (const auto& [x, d_x] : tensors) {
    ASSERT_EQ(x.shape(), d_x.shape());
    kept.push_back(x);
    directions.push_back(random.tensor<double>(x.shape()));
    for (Index i = 0; i < x.size(); ++i) {
      const double part = d_x[i] * directions.back()[i];
      wanted += part, squares += part * part;
    }
  }
  const auto at = [&](double offset) {
    for (std::size_t n = 0; n < tensors.size(); ++n)
      for (Index i = 0; i < kept[n].size(); ++i) tensors[n].x[i] = kept[n][i] + offset * directions[n][i];
    return loss();
  };
  const double difference = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
  for (std::size_t n = 0; n < tensors.size(); ++n) tensors[n].x = kept[n];
  EXPECT_NEAR(difference, wanted, 1e-6 * std::sqrt(squares));
}

}  // namespace assay::reference::testing
