// The elementary functions as formulas on packs. Layers that fuse them with other work include this; everybody else takes
// elementary.h. `scale` multiplies the result of every exp and log inside a function; it is 1 for the exact function.
#pragma once

#include <cmath>
#include <limits>

#include "reference/pack.h"

namespace assay::reference {

template <class T>
struct ElementaryConstants;

template <>
struct ElementaryConstants<double> {
  static constexpr double round = 0x1.8p52;  // adding and subtracting it rounds to an integer
  static constexpr double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;  // high: 32 bits, so e * high is exact
  static constexpr double exp_low = -746, exp_high = 710;  // results 0 and infinity
  static constexpr double denormal_scale = 0x1p54, denormal_exponent = 54;
  // e^r = 1 + r + r^2 sum_k c_k r^k with |r| <= ln(2) / 2: the Taylor series, its rest below 2^-57. Highest power first.
  static constexpr double exp_tail[] = {1. / 6227020800, 1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320,
                                        1. / 5040,       1. / 720,       1. / 120,      1. / 24,      1. / 6,      1. / 2};
  // 2 atanh(s) = 2 s + s sum_k 2/(2k+1) s^2k with s^2 <= (sqrt(2)-1)^2/(sqrt(2)+1)^2 = 0.0295: rest below 2^-58.
  static constexpr double log_tail[] = {2. / 23, 2. / 21, 2. / 19, 2. / 17, 2. / 15, 2. / 13, 2. / 11, 2. / 9, 2. / 7, 2. / 5, 2. / 3};
};

template <>
struct ElementaryConstants<float> {
  static constexpr float round = 0x1.8p23f;
  static constexpr float ln2_high = 0x1.62e400p-1f, ln2_low = 0x1.7f7d1cp-20f;  // high: 15 bits
  static constexpr float exp_low = -104, exp_high = 89;
  static constexpr float denormal_scale = 0x1p25f, denormal_exponent = 25;
  static constexpr float exp_tail[] = {1.f / 5040, 1.f / 720, 1.f / 120, 1.f / 24, 1.f / 6, 1.f / 2};  // rest below 2^-27
  static constexpr float log_tail[] = {2.f / 11, 2.f / 9, 2.f / 7, 2.f / 5, 2.f / 3};                  // rest below 2^-29
};

// Those of a layer's inner loop are always inlined: a call would load a dozen constants for every pack. They are written on
// any type P of packs, so that elementary_avx512.cc can have them on wider ones.
namespace pack {

template <class P, std::size_t n>
[[gnu::always_inline]] inline P polynomial(P x, const typename P::Scalar (&highest_first)[n]) {
  P sum = P::all(highest_first[0]);
  for (std::size_t i = 1; i < n; ++i) sum = fma(sum, x, P::all(highest_first[i]));
  return sum;
}

// x = n ln 2 + r, |r| <= ln(2) / 2; returns e^r - 1.
template <class P>
[[gnu::always_inline]] inline P reduced_expm1(P x, P& n) {
  using T = typename P::Scalar;
  using K = ElementaryConstants<T>;
  n = fma(x, P::all(T(1.4426950408889634)), P::all(K::round)) - P::all(K::round);
  const P r = fnma(n, P::all(K::ln2_low), fnma(n, P::all(K::ln2_high), x));
  return fma(r * r, polynomial(r, K::exp_tail), r);
}

// x 2^n in one rounding, |x| about 1: in two steps, since 2^n itself may be no normal number; only the second one can round.
template <class P>
[[gnu::always_inline]] inline P scaled_by_power(P x, P n) {
  using T = typename P::Scalar;
  using K = ElementaryConstants<T>;
  const P half = fma(n, P::all(T(0.5)), P::all(K::round)) - P::all(K::round);
  return x * exp2_integer(half) * exp2_integer(n - half);
}

template <class P>
[[gnu::always_inline]] inline P exp(P x) {
  using T = typename P::Scalar;
  using K = ElementaryConstants<T>;
  P n;
  const P e = P::all(1) + reduced_expm1(clamp(x, P::all(K::exp_low), P::all(K::exp_high)), n);
  return scaled_by_power(e, n);
}

template <class T>
Pack<T> expm1(Pack<T> x) {
  using P = Pack<T>;
  using K = ElementaryConstants<T>;
  const T no_one_needed = 64 * K::ln2_high;  // beyond it e^x - 1 rounds to e^x
  P n;
  const P e = reduced_expm1(clamp(x, P::all(-no_one_needed), P::all(no_one_needed)), n);
  const P power = exp2_integer(n);
  const P near = fma(power, e, power - P::all(1));
  return select(P::all(no_one_needed) < x, exp(x), select(x == P::all(0), x, near));  // keeps -0
}

// ln(x) + c for the small correction c of log1p. x normal and positive.
template <class T>
Pack<T> log_normal(Pack<T> x, Pack<T> c, Pack<T> exponent_offset) {
  using P = Pack<T>;
  using K = ElementaryConstants<T>;
  P m, e;
  split_exponent(x, m, e);
  e = e - exponent_offset;
  const P f = m - P::all(1), s = f / (P::all(2) + f), s2 = s * s, half_f2 = P::all(T(0.5)) * f * f;
  const P rest = s2 * polynomial(s2, K::log_tail);  // ln(1 + f) = f - (f^2/2 - s (f^2/2 + rest))
  const P low = fma(e, P::all(K::ln2_low), c);
  return fma(e, P::all(K::ln2_high), f - (half_f2 - fma(s, half_f2 + rest, low)));
}

template <class T>
Pack<T> log(Pack<T> x) {
  using P = Pack<T>;
  using K = ElementaryConstants<T>;
  using Limits = std::numeric_limits<T>;
  const P small = x < P::all(Limits::min());
  const P normal = select(small, x * P::all(K::denormal_scale), x);
  P y = log_normal(normal, P::all(0), select(small, P::all(K::denormal_exponent), P::all(0)));
  y = select(x < P::all(Limits::infinity()), y, x);  // infinity and NaN
  y = select(x == P::all(0), P::all(-Limits::infinity()), y);
  return select(x < P::all(0), P::all(Limits::quiet_NaN()), y);
}

template <class T>
Pack<T> log1p(Pack<T> x) {
  using P = Pack<T>;
  using Limits = std::numeric_limits<T>;
  const P one = P::all(1), u = one + x;
  // What rounding 1 + x lost, seen from the larger of the two.
  const P lost = select(one < x, one - (u - x), x - (u - one));
  P y = log_normal(u, lost / u, P::all(0));
  y = select(x == P::all(0), x, y);
  y = select(x < P::all(Limits::infinity()), y, x);
  y = select(x == P::all(-1), P::all(-Limits::infinity()), y);
  return select(x < P::all(-1), P::all(Limits::quiet_NaN()), y);
}

// sigma(x) = 1/(1 + e^-x), and sigma(-x) = 1 - sigma(x) without cancellation.
template <class P>
[[gnu::always_inline]] inline P sigmoid(P x, P scale, P& complement) {
  const P e = exp(-abs(x)) * scale, large = P::all(1) / (P::all(1) + e), small = e * large;
  const auto negative = x < P::all(0);
  complement = select(negative, large, small);
  return select(negative, small, large);
}
template <class P>
[[gnu::always_inline]] inline P sigmoid(P x, P scale) {
  P complement;
  return sigmoid(x, scale, complement);
}

template <class P>
[[gnu::always_inline]] inline P silu(P x, P scale) {
  return x * sigmoid(x, scale);
}

// silu'(x) = sigma(x) (1 + x (1 - sigma(x)))
template <class P>
[[gnu::always_inline]] inline P silu_derivative(P x, P scale) {
  P complement;
  const P s = sigmoid(x, scale, complement);
  return s * fma(x, complement, P::all(1));
}

// ln(1 + e^x), or x above 20.
template <class T>
Pack<T> softplus(Pack<T> x, Pack<T> scale) {
  return select(Pack<T>::all(20) < x, x, log1p(exp(x) * scale) * scale);
}
template <class T>
Pack<T> softplus_naive(Pack<T> x, Pack<T> scale) {
  return select(Pack<T>::all(20) < x, x, log(exp(x) * scale + Pack<T>::all(1)) * scale);
}
template <class T>
Pack<T> softplus_derivative(Pack<T> x, Pack<T> scale) {
  return select(Pack<T>::all(20) < x, Pack<T>::all(1), sigmoid(x, scale));
}

// y[i] = f(x[i]) for i < n, x and y may be the same.
template <class T, class F>
void map(const T* x, T* y, std::int64_t n, const F& f) {
  for_packs<T>(n, [&](auto lanes) { lanes.store(y, f(lanes.load(x))); });
}

}  // namespace pack
}  // namespace assay::reference
