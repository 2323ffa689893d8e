// The notation and the errors of sums and functions: harness/cases/float_errors.h. In the derivations
//   p = bias + sum of taps, a float32 sum of up to taps + 1 terms in any order, each product rounded once or not at all
//   silu:    |silu'| <= 1.1, |silu''| <= 1/2, |silu'''| <= 0.31; |silu'(-z)| and |silu''(+-z)| fall for z >= 4 and are
//            at most z e^-z there, as (z - 1) e^-z and z e^-z / (1 + e^-z)^2 are
#include "harness/cases/conv_limits.h"

#include <algorithm>
#include <vector>

namespace assay::harness {
namespace {

class Window {
 public:
  Window(const ConvOperands& in, const Budget& budget) : in_(in), budget_(budget) {}

  bool padding(std::int64_t b, std::int64_t t) const { return document(b, t) < 0; }
  bool reads(std::int64_t b, std::int64_t t, std::int64_t from) const {
    if (from < 0) return !in_.initial_state.empty();
    return document(b, t) == document(b, from);
  }
  // x at a position that some token reads.
  double x(std::int64_t b, std::int64_t from, std::int64_t c) const {
    if (from >= 0) return in_.x[(b * in_.seq_len + from) * in_.channels + c];
    const std::int64_t past = in_.taps - 1;
    return in_.initial_state[(b * in_.channels + c) * past + from + past];
  }
  std::int64_t source(std::int64_t t, std::int64_t tap) const { return t - (in_.taps - 1) + tap; }
  double weight(std::int64_t c, std::int64_t tap) const { return in_.weight[c * in_.taps + tap]; }

  // p and its error.
  struct Point {
    double p, error;
  };
  Point point(std::int64_t b, std::int64_t t, std::int64_t c) const {
    Sum terms;
    double count = 0;
    if (!in_.bias.empty()) terms.add(in_.bias[c]), ++count;
    for (std::int64_t j = 0; j < in_.taps; ++j) {
      if (!reads(b, t, source(t, j))) continue;
      terms.add(weight(c, j) * x(b, source(t, j), c));
      ++count;
    }
    return {terms.total, sum_error(terms, count)};
  }

  // Of a sum of `count` products.
  double sum_error(const Sum& terms, double count) const {
    if (in_.exact) return 0;
    return order_error(terms, count, budget_.per_element, in_.contract) +
           budget_.rounding * term_error(terms, 1, budget_.per_element) + count * kTiny;
  }

 private:
  double document(std::int64_t b, std::int64_t t) const {
    return in_.seq_idx.empty() ? 0 : in_.seq_idx[b * in_.seq_len + t];
  }

  const ConvOperands& in_;
  const Budget& budget_;
};

// What bounds silu'(-z) and silu''(+-z) for all z >= nearest.
double tail(double nearest) { return nearest >= 4 ? nearest * std::exp(-nearest) : HUGE_VAL; }

// Writes an error as the limit, with the output's rounding, or as the freedom.
void put(const ConvOperands& in, const Budget& b, Tolerance& out, std::int64_t i, double value, double error) {
  if (b.rounding > 0)
    out.limit[i] = with_rounding(!in.exact, in.dtype, value, error);
  else
    out.freedom[i] = error;
}

// dp = d_y silu'(p) with the part of its error that is drawn anew for each token, and the part that functions have.
struct Gradient {
  double value = 0, drawn = 0, functions = 0;
};
Gradient gradient_at(const ConvOperands& in, const Budget& b, const Window& w, std::int64_t batch, std::int64_t t,
                     std::int64_t c) {
  if (w.padding(batch, t)) return {};
  const double d_y = in.d_y[(batch * in.seq_len + t) * in.channels + c];
  if (!in.silu) return {.value = d_y};
  const Window::Point point = w.point(batch, t, c);
  const Gate g = gate_at(point.p, b, in.contract);
  // p's error times |silu''|, and to second order; at most what the largest slope allows. Then one rounding.
  const double sigma = 1 / (1 + std::exp(-point.p)), rest = 1 / (1 + std::exp(point.p));
  const double slope = sigma * rest * std::fabs(2 + point.p * (rest - sigma));
  const double near = slope * point.error + 0.31 / 2 * point.error * point.error;
  const double moved = std::min({near, 0.5 * point.error, tail(std::fabs(point.p) - point.error) * point.error});
  const double rounding = in.exact ? 0 : b.rounding * kUnit * std::fabs(d_y * g.derivative);
  return {.value = d_y * g.derivative,
          .drawn = std::fabs(d_y) * moved + rounding,
          .functions = std::fabs(d_y) * (g.derivative_error + kSiluFloor)};
}

// A sum of dp over all tokens, each times a factor.
struct TokenSum {
  Sum terms;
  double count = 0, drawn_squares = 0, drawn_magnitudes = 0, functions = 0;
  void add(const Gradient& dp, double factor) {
    terms.add(dp.value * factor);
    ++count;
    drawn_squares += dp.drawn * factor * dp.drawn * factor;
    drawn_magnitudes += std::fabs(dp.drawn * factor);
    functions += std::fabs(dp.functions * factor);
  }
  // `drawn` of a token may be its worst case, which is sqrt(3) deviations of a uniform error.
  double error(const Window& w, const Budget& b) const {
    const double deviations = std::max(1.0, b.per_element / std::sqrt(3.0));
    return w.sum_error(terms, count) + std::min(deviations * std::sqrt(drawn_squares), drawn_magnitudes) + functions;
  }
};

}  // namespace

Tolerance conv_forward_tolerance(const ConvOperands& in) {
  Tolerance out = make_tolerance(static_cast<std::size_t>(in.batch * in.seq_len * in.channels));
  for (const Budget& b : {kLimit, kFreedom}) {
    const Window w(in, b);
    for (std::int64_t i = 0; i < in.batch * in.seq_len * in.channels; ++i) {
      const std::int64_t c = i % in.channels, t = i / in.channels % in.seq_len, row = i / in.channels / in.seq_len;
      if (w.padding(row, t)) continue;  // exactly 0
      const Window::Point point = w.point(row, t, c);
      if (!in.silu) {
        put(in, b, out, i, point.p, point.error);
        continue;
      }
      const Gate g = gate_at(point.p, b, in.contract);
      const double near = std::fabs(g.derivative) * point.error + 0.25 * point.error * point.error;
      const double moved = std::min({near, 1.1 * point.error, tail(-point.p - point.error) * point.error});
      put(in, b, out, i, g.silu, moved + std::fabs(g.silu) * g.silu_error + kSiluFloor);
    }
  }
  return out;
}

ConvBackwardTolerance conv_backward_tolerance(const ConvOperands& in) {
  const std::int64_t past = in.taps - 1, states = in.batch * in.channels * past;
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  ConvBackwardTolerance out{.d_x = make_tolerance(size(in.batch * in.seq_len * in.channels)),
                            .d_weight = make_tolerance(size(in.channels * in.taps)),
                            .d_bias = make_tolerance(size(in.channels)),
                            .d_initial_state = make_tolerance(size(in.initial_state.empty() ? 0 : states))};
  for (const Budget& b : {kLimit, kFreedom}) {
    const Window w(in, b);
    for (std::int64_t c = 0; c < in.channels; ++c) {
      std::vector<TokenSum> d_weight(size(in.taps));
      TokenSum d_bias;
      for (std::int64_t row = 0; row < in.batch; ++row) {
        std::vector<Gradient> dp(size(in.seq_len));
        for (std::int64_t t = 0; t < in.seq_len; ++t) {
          dp[size(t)] = gradient_at(in, b, w, row, t, c);
          d_bias.add(dp[size(t)], 1);
          for (std::int64_t j = 0; j < in.taps; ++j)
            if (w.reads(row, t, w.source(t, j))) d_weight[size(j)].add(dp[size(t)], w.x(row, w.source(t, j), c));
        }
        // d_x, the initial state being positions before 0: a sum over the tokens that read a position, and the gradient
        // of the final state where that copies it. The tokens' errors are taken at their worst.
        for (std::int64_t from = in.initial_state.empty() ? 0 : -past; from < in.seq_len; ++from) {
          Sum terms;
          double count = 0, errors = 0;
          for (std::int64_t t = std::max<std::int64_t>(from, 0); t <= from + past && t < in.seq_len; ++t) {
            if (!w.reads(row, t, from)) continue;
            const double weight = w.weight(c, from + past - t);
            terms.add(weight * dp[size(t)].value);
            errors += std::fabs(weight) * (dp[size(t)].drawn + dp[size(t)].functions);
            ++count;
          }
          const std::int64_t column = from - (in.seq_len - past);
          if (!in.d_final_state.empty() && column >= 0) {
            terms.add(in.d_final_state[(row * in.channels + c) * past + column]);
            ++count;
          }
          const double error = errors + w.sum_error(terms, count);
          if (from >= 0)
            put(in, b, out.d_x, (row * in.seq_len + from) * in.channels + c, terms.total, error);
          else
            put(in, b, out.d_initial_state, (row * in.channels + c) * past + from + past, terms.total, error);
        }
      }
      put(in, b, out.d_bias, c, d_bias.terms.total, d_bias.error(w, b));
      for (std::int64_t j = 0; j < in.taps; ++j)
        put(in, b, out.d_weight, c * in.taps + j, d_weight[size(j)].terms.total, d_weight[size(j)].error(w, b));
    }
  }
  return out;
}

}  // namespace assay::harness
