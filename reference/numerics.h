// Numerics: the arithmetic a layer is computed in. Every layer function takes one as its first argument.
//
//   Numerics<double>{}                              the oracle
//   Numerics<float>{}                               a float32 model
//   Numerics<float>{.storage = Storage::bfloat16}   the matched policy of a bfloat16 model: rounds exactly where it does
//
// A layer calls store() at every place where the specification says that the model rounds to its dtype, and nowhere else.
#pragma once

#include <cmath>
#include <span>

#include "reference/elementary.h"

namespace assay::reference {

enum class Storage { native, bfloat16 };
enum class Softplus { log1p, naive };  // naive: ln(e^v + 1), as Triton evaluates it

template <class T>
struct Numerics {
  using Scalar = T;
  Storage storage = Storage::native;
  // The documented error of a device function, in units of 2^-24 of its result: every exp, log and rsqrt is multiplied by
  // 1 + function_bias * 2^-24. 0 for the exact function; even values also exist in float. The verdicts use it to ask what a
  // correct kernel on an unkind device may do.
  int function_bias = 0;
  Softplus softplus_form = Softplus::log1p;

  // Rounds to the model's dtype, once, to nearest even.
  T store(T value) const { return storage == Storage::bfloat16 ? round_to_bfloat16(value) : value; }
  void store(std::span<T> values) const {
    if (storage == Storage::bfloat16) round_to_bfloat16(values);
  }

  // The same functions without the model's rounding: for what the model keeps in float32.
  Numerics unrounded() const {
    Numerics result = *this;
    result.storage = Storage::native;
    return result;
  }

  T function_scale() const { return static_cast<T>(1 + function_bias * 0x1p-24); }
  T exp(T x) const { return reference::exp(x) * function_scale(); }
  T log(T x) const { return reference::log(x) * function_scale(); }
  T rsqrt(T x) const { return reference::rsqrt(x) * function_scale(); }
  T sigmoid(T x) const { return reference::sigmoid(x, function_scale()); }
  T silu(T x) const { return reference::silu(x, function_scale()); }
  T silu_derivative(T x) const { return reference::silu_derivative(x, function_scale()); }
  T softplus(T x) const {
    return softplus_form == Softplus::naive ? reference::softplus_naive(x, function_scale())
                                            : reference::softplus(x, function_scale());
  }
  T softplus_derivative(T x) const { return reference::softplus_derivative(x, function_scale()); }
};

}  // namespace assay::reference
