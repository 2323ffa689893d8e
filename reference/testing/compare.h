// Distances between tensors, for tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "reference/tensor.h"

namespace assay::reference::testing {

// ||got - want|| / ||want||, in double; 0 for two empty or zero tensors.
template <class T, class U>
double relative_l2(const Tensor<T>& got, const Tensor<U>& want) {
  EXPECT_EQ(got.size(), want.size());
  double error = 0, norm = 0;
  for (Index i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double d = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    error += d * d;
    norm += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  return error == 0 ? 0 : std::sqrt(error / norm);
}

template <class T>
bool same_bits(const Tensor<T>& a, const Tensor<T>& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace assay::reference::testing
