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

}  // namespace assay::reference::testing
