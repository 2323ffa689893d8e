// Numerics: the arithmetic a layer is computed in. Every layer function takes one as its first argument.
//
//   Numerics<double>{}                              the oracle
//   Numerics<float>{}                               a float32 model
//   Numerics<float>{.storage = Storage::bfloat16}   the matched policy of a bfloat16 model: rounds exactly where it does
//
// A layer calls store() at every place where spec says that the model rounds to its dtype, and nowhere else.
#pragma once

#include "reference/elementary.h"

namespace assay::reference {

enum class Storage { native, bfloat16 };

template <class T>
struct Numerics {
  using Scalar = T;
  Storage storage = Storage::native;
  // The documented error of a device function, in units of 2^-24 of its result, added to every exp, log and rsqrt: 0 for
  // the exact function. The verdicts use it to ask what a correct kernel on an unkind device may do.
  int function_bias = 0;

  // Rounds to the model's dtype, once, to nearest even.
  T store(T value) const { return storage == Storage::bfloat16 ? round_to_bfloat16(value) : value; }
};

}  // namespace assay::reference
