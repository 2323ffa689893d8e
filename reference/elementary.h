// Elementary functions of the reference, for float and double: made of IEEE operations alone, so that an element has the
// same bits wherever it lies, on every machine with AVX2 and FMA, from every compiler. No libm.
//
// Error, held by elementary_test.cc: below 1 ulp for exp, log and log1p, 2 ulp for expm1, 3 ulp for sigmoid, silu and
// softplus, 5 ulp for silu' away from its zero. Infinities, NaN, denormals and signed zeros as in C.
//
// `scale` multiplies the result of every exp and log inside the function. It is 1 for the exact function; other values are
// how Numerics::function_bias asks what a device with coarser functions may do.
#pragma once

#include <concepts>
#include <span>
#include <type_traits>

namespace assay::reference {

// Scalar forms, T = float or double.
template <std::floating_point T> T exp(T x);
template <std::floating_point T> T expm1(T x);
template <std::floating_point T> T log(T x);
template <std::floating_point T> T log1p(T x);
template <std::floating_point T> T sigmoid(T x, T scale = 1);              // 1 / (1 + e^-x)
template <std::floating_point T> T silu(T x, T scale = 1);                 // x sigmoid(x)
template <std::floating_point T> T silu_derivative(T x, T scale = 1);      // sigmoid(x) (1 + x (1 - sigmoid(x)))
template <std::floating_point T> T softplus(T x, T scale = 1);             // x if x > 20, else log1p(e^x)
template <std::floating_point T> T softplus_naive(T x, T scale = 1);       // x if x > 20, else log(e^x + 1): loses its digits below -8
template <std::floating_point T> T softplus_derivative(T x, T scale = 1);  // 1 if x > 20, else sigmoid(x)
template <std::floating_point T> T rsqrt(T x);                             // 1 / sqrt(x), two roundings

// Array forms: y[i] = f(x[i]), the bits of the scalar form. x and y have one size, and may be the same array.
template <class T>
using Input = std::type_identity_t<std::span<const T>>;  // T is deduced from the output
template <std::floating_point T> void exp(Input<T> x, std::span<T> y, std::type_identity_t<T> scale = 1);
template <std::floating_point T> void log(Input<T> x, std::span<T> y, std::type_identity_t<T> scale = 1);
template <std::floating_point T> void log1p(Input<T> x, std::span<T> y, std::type_identity_t<T> scale = 1);
template <std::floating_point T> void sigmoid(Input<T> x, std::span<T> y, std::type_identity_t<T> scale = 1);
template <std::floating_point T> void silu(Input<T> x, std::span<T> y, std::type_identity_t<T> scale = 1);
template <std::floating_point T> void silu_derivative(Input<T> x, std::span<T> y, std::type_identity_t<T> scale = 1);
template <std::floating_point T> void softplus(Input<T> x, std::span<T> y, std::type_identity_t<T> scale = 1);
template <std::floating_point T> void softplus_naive(Input<T> x, std::span<T> y, std::type_identity_t<T> scale = 1);
template <std::floating_point T> void softplus_derivative(Input<T> x, std::span<T> y, std::type_identity_t<T> scale = 1);

// Nearest bfloat16, ties to even, in one rounding also from double. Overflow gives infinity, NaN stays NaN.
template <std::floating_point T> T round_to_bfloat16(T x);
template <std::floating_point T> void round_to_bfloat16(std::span<T> x);  // in place

}  // namespace assay::reference
