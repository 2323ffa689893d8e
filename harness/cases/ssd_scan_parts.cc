#include "harness/cases/ssd_scan_parts.h"

#include <algorithm>
#include <cmath>

#include "harness/cases/step_size.h"

namespace assay::harness {
namespace {

constexpr double kTermRoundings = 6;

using Values = std::vector<double>;

}  // namespace

Errors::Errors(DType dtype, const assay_contract& contract)
    : contract_(contract), operand_(operand_error(contract)), stored_in_float32_(dtype == DType::float32) {}

double Errors::of(const Parts& p, const Budget& b) const {
  Sum terms;
  terms.total = p.value, terms.squares = p.tokens2 + p.products2 + p.carried2, terms.magnitudes = p.magnitudes;
  const double trees = std::sqrt(8.0 / 3) * p.window * (std::fabs(p.value) + std::sqrt(p.tokens2));
  const double walk = b.per_element / std::sqrt(3.0) * kUnit * (std::sqrt(p.walk2) + trees);
  return order_error(terms, p.steps, b.per_element, contract_) +
         b.rounding * term_error(terms, kTermRoundings, b.per_element) + p.drift + walk + p.functions + operands(p, b) +
         p.floor;
}

// The matched reference rounds the same operands of a bfloat16 model: no freedom.
double Errors::operands(const Parts& p, const Budget& b) const {
  if (b.rounding == 0 && !stored_in_float32_) return 0;
  const double squares = p.operands2 + (stored_in_float32_ ? p.stored2 : 0), at_most = stored_in_float32_ ? 4 : 2;
  return operand_ * std::min(b.per_element * std::sqrt(squares / 3), at_most * p.magnitudes);
}

Head head_at(const ScanOperands& in, std::int64_t row, std::int64_t head, const assay_contract& contract) {
  const std::int64_t T = in.seq_len;
  Head s;
  for (Values* v : {&s.delta, &s.delta_error, &s.exponent, &s.decay, &s.drift, &s.window}) v->resize(size(T));
  s.begins.resize(size(T));
  const double A = in.A[size(head)];
  double document = 0, window = 0;
  std::int64_t begin = -1;
  for (std::int64_t t = 0; t < T; ++t) {
    const std::int64_t token = row * T + t;
    const Value raw = step_size(in.dt[size(token * in.heads + head)], in.dt_bias.empty() ? 0 : in.dt_bias[size(head)],
                                in.dt_softplus, kLimit, contract);
    const double delta = std::min(std::max(raw.value, in.dt_min), in.dt_max);
    const bool clamped = std::fabs(delta - raw.value) > raw.error;
    const double d = delta * A, error = clamped ? 0 : raw.error;
    s.delta[size(t)] = delta, s.delta_error[size(t)] = error, s.exponent[size(t)] = d;
    s.drift[size(t)] = std::fabs(A) * error + (d == 0 ? 0 : exp_error(d, contract));
    window += std::fabs(d);
    if (t >= kLongestChunk) window -= std::fabs(s.exponent[size(t - kLongestChunk)]);
    s.window[size(t)] = window;
    if (!in.seq_idx.empty() && in.seq_idx[size(token)] != document) begin = t, document = in.seq_idx[size(token)];
    s.begins[size(t)] = begin;
    s.decay[size(t)] = begin == t ? 0 : std::exp(d);
    s.decays_are_exact = s.decays_are_exact && (d == 0 || std::exp(d) < kTiny * kUnit);
  }
  return s;
}

Products products_of(const ScanOperands& in, std::int64_t row, std::int64_t group) {
  const std::int64_t T = in.seq_len, N = in.state_size;
  Products g{Values(size(T * T)), Values(size(T * T)), Values(size(T * T)), T};
  for (std::int64_t t = 0; t < T; ++t)
    for (std::int64_t j = 0; j <= t; ++j) {
      const double *C = &in.C[size(((row * T + t) * in.groups + group) * N)],
                   *B = &in.B[size(((row * T + j) * in.groups + group) * N)];
      double sum = 0, squares = 0, magnitudes = 0;
      for (std::int64_t n = 0; n < N; ++n) {
        const double p = C[n] * B[n];
        sum += p, squares += p * p, magnitudes += std::fabs(p);
      }
      g.sum[g.at(t, j)] = sum, g.squares[g.at(t, j)] = squares, g.magnitudes[g.at(t, j)] = magnitudes;
    }
  return g;
}

}  // namespace assay::harness
