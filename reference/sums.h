// Sums with a fixed order. Element i goes to lane i mod L, L = 4 registers of lanes; lanes are added in a fixed tree. So the
// bits depend on the values alone: not on alignment, threads or compiler. Products enter by fma. Empty sums are 0.
#pragma once

#include <algorithm>

#include "reference/pack.h"

namespace assay::reference {

// Adds step(accumulator, load) over n elements; load(p) is the pack of p[i ...] at the current elements, 0 beyond n.
template <class T, class Step>
T sum_in_lanes(std::int64_t n, const Step& step) {
  using P = Pack<T>;
  constexpr int registers = 4, width = P::width;
  P lanes[registers] = {P::all(0), P::all(0), P::all(0), P::all(0)};
  std::int64_t i = 0;
  for (; i + registers * width <= n; i += registers * width)
    for (int r = 0; r < registers; ++r)
      lanes[r] = step(lanes[r], [at = i + r * width](const T* p) { return P::load(p + at); });
  for (int r = 0; i < n; ++r, i += width) {
    const int count = static_cast<int>(std::min<std::int64_t>(width, n - i));
    lanes[r] = step(lanes[r], [=](const T* p) { return P::load(p + i, count); });
  }
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])).sum();
}

template <class T>
T sum(const T* x, std::int64_t n) {
  return sum_in_lanes<T>(n, [=](Pack<T> acc, const auto& load) { return acc + load(x); });
}
template <class T>
T sum_of_squares(const T* x, std::int64_t n) {
  return sum_in_lanes<T>(n, [=](Pack<T> acc, const auto& load) { return fma(load(x), load(x), acc); });
}
// sum_i a_i b_i
template <class T>
T dot(const T* a, const T* b, std::int64_t n) {
  return sum_in_lanes<T>(n, [=](Pack<T> acc, const auto& load) { return fma(load(a), load(b), acc); });
}
// sum_i (a_i b_i) c_i
template <class T>
T dot(const T* a, const T* b, const T* c, std::int64_t n) {
  return sum_in_lanes<T>(n, [=](Pack<T> acc, const auto& load) { return fma(load(a) * load(b), load(c), acc); });
}

// Strided: the bits of the contiguous form on the gathered elements.
template <class T>
T dot(const T* a, std::int64_t a_stride, const T* b, std::int64_t b_stride, std::int64_t n) {
  constexpr int block = 4 * Pack<T>::width;
  Pack<T> lanes[4] = {Pack<T>::all(0), Pack<T>::all(0), Pack<T>::all(0), Pack<T>::all(0)};
  for (std::int64_t i = 0; i < n; i += block) {
    T x[block] = {}, y[block] = {};
    const int count = static_cast<int>(std::min<std::int64_t>(block, n - i));
    for (int k = 0; k < count; ++k) x[k] = a[(i + k) * a_stride], y[k] = b[(i + k) * b_stride];
    for (int r = 0; r < 4 && r * Pack<T>::width < count; ++r)
      lanes[r] = fma(Pack<T>::load(x + r * Pack<T>::width), Pack<T>::load(y + r * Pack<T>::width), lanes[r]);
  }
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])).sum();
}
template <class T>
T sum(const T* x, std::int64_t stride, std::int64_t n) {
  const T one = 1;
  return dot(x, stride, &one, 0, n);
}
template <class T>
T sum_of_squares(const T* x, std::int64_t stride, std::int64_t n) {
  return dot(x, stride, x, stride, n);
}

}  // namespace assay::reference
