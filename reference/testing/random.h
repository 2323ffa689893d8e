// Deterministic test data: the same numbers on every machine, compiler and run.
#pragma once

#include <cmath>
#include <cstdint>

#include "reference/tensor.h"

namespace assay::reference::testing {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  std::uint64_t bits() {  // splitmix64
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // In [low, high), a multiple of 2^-24 of the range: exact in float when the range is a power of two.
  double uniform(double low, double high) { return low + (high - low) * static_cast<double>(bits() >> 40) * 0x1p-24; }
  Index integer(Index low, Index high) { return low + static_cast<Index>(bits() % static_cast<std::uint64_t>(high - low + 1)); }

  template <class T>
  Tensor<T> tensor(Shape shape, double low = -1, double high = 1) {
    Tensor<T> t(std::move(shape));
    for (T& v : t.span()) v = static_cast<T>(uniform(low, high));
    return t;
  }

 private:
  std::uint64_t state_;
};

template <class To, class From>
Tensor<To> cast(const Tensor<From>& t) {
  Tensor<To> out(t.shape());
  for (Index i = 0; i < t.size(); ++i) out[i] = static_cast<To>(t[i]);
  return out;
}

}  // namespace assay::reference::testing
