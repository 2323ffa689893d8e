// What becomes of the factors of every term of a gradient: nothing, and the sums are the gradient; or f(u) with
// f(u v) = f(u) f(v), and they are the sums of f of its terms, whatever is subtracted added. Private to *.cc.
#pragma once

#include <cmath>

#include "reference/tensor.h"

namespace assay::reference {

template <class T>
struct Value {
  static constexpr T kMinus = -1;
  T operator()(T u) const { return u; }
};
template <class T>
struct Absolute {
  static constexpr T kMinus = 1;
  T operator()(T u) const { return std::abs(u); }
};
template <class T>
struct Square {
  static constexpr T kMinus = 1;
  T operator()(T u) const { return u * u; }
};

// f of every element.
template <class T>
const Tensor<T>& mapped(const Value<T>&, const Tensor<T>& t) {
  return t;
}
template <class T, class F>
Tensor<T> mapped(const F& f, Tensor<T> t) {
  for (T& value : t.span()) value = f(value);
  return t;
}

}  // namespace assay::reference
