// Derivations in the notation of float_errors.h.
#include "harness/cases/norm_limits.h"

#include <algorithm>
#include <cmath>

#include "harness/cases/float_errors.h"

namespace assay::harness {
namespace {

// One group of one row.
struct Group {
  std::vector<Gate> gate;
  std::vector<double> v, v_error, v_floor;  // relative error, absolute floor
  double rstd = 0, rstd_error = 0;          // relative
};
Group group_at(const NormOperands& in, std::int64_t base, const Budget& b) {
  Group g;
  g.v.resize(in.group);
  g.v_error.resize(in.group);
  g.v_floor.resize(in.group);
  if (!in.gate.empty()) g.gate.resize(in.group);
  double squares = 0, function_part = 0;
  for (std::int64_t i = 0; i < in.group; ++i) {
    const double x = in.x[base + i];
    g.v[i] = x;
    if (!in.gate.empty()) {
      g.gate[i] = gate_at(in.gate[base + i], b, in.contract);
      g.v[i] = x * g.gate[i].silu;
      g.v_error[i] = g.gate[i].silu_error + b.rounding * kUnit;
      g.v_floor[i] = std::fabs(x) * kSiluFloor + kTiny;
    }
    squares += g.v[i] * g.v[i];
    function_part += 2 * g.v_error[i] * g.v[i] * g.v[i];
  }
  const double n = static_cast<double>(in.group), mean = squares / n, inside = mean + in.eps;
  // The sum of squares: partial sums grow linearly, so sum of their squares is n S^2 / 3; the squares round once each.
  // A common draw for the whole group. Then a rounding of the mean, weighed by mean / (mean + eps), one of eps to
  // float32 and one of the sum of the two, all halved by the root; the root itself 2 ulp.
  const double order = in.contract.accumulate == ASSAY_ACCUMULATE_FP32_TENSOR_CORE
                           ? 2 * n
                           : std::min(b.per_group * (std::sqrt(n) / 3 + b.rounding), n + b.rounding);
  const double relative_squares = (squares > 0 ? function_part / squares : 0) + (order + b.rounding) * kUnit;
  g.rstd = 1 / std::sqrt(inside);
  g.rstd_error = 0.5 * (relative_squares * mean / inside + 2 * b.rounding * kUnit + kTiny / inside) + ulps(2);
  return g;
}

// Sums over rows, one per channel, for d_weight.
struct Column {
  Sum terms;
  double row_errors = 0, function_errors = 0, floor = 0;
};

}  // namespace

Tolerance norm_forward_tolerance(const NormOperands& in, std::span<const double> y) {
  Tolerance out = make_tolerance(y.size());
  for (std::int64_t base = 0; base < in.rows * in.width; base += in.group) {
    const Group limit = group_at(in, base, kLimit), freedom = group_at(in, base, kFreedom);
    for (std::int64_t i = 0; i < in.group; ++i) {
      const double size = std::fabs(y[base + i]), w = std::fabs(in.weight[(base + i) % in.width]);
      // y = (v rstd) w: two products; the last rounding is the output's own in float32. Underflow of v rstd is scaled
      // by w.
      const double floor = w * limit.rstd * limit.v_floor[i] + (1 + w) * kTiny;
      const double error = size * (limit.rstd_error + limit.v_error[i] + 2 * kUnit) + floor;
      out.limit[base + i] = with_rounding(in.final_rounding, in.dtype, size, error);
      out.freedom[base + i] = size * (freedom.rstd_error + freedom.v_error[i]) + floor;
    }
  }
  return out;
}

NormBackwardTolerance norm_backward_tolerance(const NormOperands& in, std::span<const double> d_x,
                                              std::span<const double> d_gate, std::span<const double> d_weight,
                                              DType d_x_dtype) {
  NormBackwardTolerance out{make_tolerance(d_x.size()), make_tolerance(d_gate.size()), make_tolerance(d_weight.size())};
  const auto n = static_cast<double>(in.group);
  for (const Budget& b : {kLimit, kFreedom}) {
    const bool is_limit = b.rounding > 0;
    const double u = b.rounding * kUnit;
    std::vector<Column> columns(in.width);
    for (std::int64_t base = 0; base < in.rows * in.width; base += in.group) {
      const Group g = group_at(in, base, b);
      // c = mean of t, t = (w dy)(v rstd): three roundings a term; v's own error taken at its worst.
      Sum t;
      double v_part = 0, v_floor_part = 0;
      for (std::int64_t i = 0; i < in.group; ++i) {
        const double uw = in.weight[(base + i) % in.width] * in.d_y[base + i];
        t.add(uw * g.v[i] * g.rstd);
        v_part += std::fabs(uw * g.v[i] * g.rstd) * g.v_error[i];
        v_floor_part += std::fabs(uw) * g.rstd * g.v_floor[i];
      }
      const double c = t.total / n;
      const double c_error = (order_error(t, n, b.per_group, in.contract) + b.rounding * term_error(t, 3, b.per_group) +
                              v_part + v_floor_part) /
                                 n +
                             std::fabs(c) * (g.rstd_error + 2 * u) + kTiny;
      for (std::int64_t i = 0; i < in.group; ++i) {
        const std::int64_t at = base + i, channel = at % in.width;
        const double uw = in.weight[channel] * in.d_y[at], vhat = g.v[i] * g.rstd, inner = uw - vhat * c,
                     d_v = g.rstd * inner;
        // d_v = rstd (uw - vhat c): a rounding of uw, of vhat, of their product, of the difference, and of the last
        // product.
        const double d_v_error = g.rstd * (u * std::fabs(uw) + std::fabs(vhat) * c_error +
                                           std::fabs(vhat * c) * (g.rstd_error + g.v_error[i] + 3 * u) +
                                           u * std::fabs(inner) + g.rstd * g.v_floor[i] * std::fabs(c) + 2 * kTiny) +
                                 std::fabs(d_v) * (g.rstd_error + u) + kTiny;
        double error = d_v_error;
        if (!in.gate.empty()) {
          const Gate& s = g.gate[i];
          const double x = in.x[at];
          error = d_v_error * std::fabs(s.silu) + std::fabs(d_v * s.silu) * (s.silu_error + u) +
                  std::fabs(d_v) * kSiluFloor + kTiny;
          // d_gate = d_v x silu'(gate): two products.
          const double gate_error = d_v_error * std::fabs(x * s.derivative) +
                                    std::fabs(d_v * x) * (s.derivative_error + kSiluFloor) +
                                    2 * u * std::fabs(d_gate[at]) + (1 + std::fabs(x)) * kTiny;
          (is_limit ? out.d_gate.limit : out.d_gate.freedom)[at] =
              is_limit ? with_rounding(in.final_rounding, in.dtype, d_gate[at], gate_error) : gate_error;
        }
        if (!in.d_x_extra.empty()) error += u * std::fabs(d_x[at]);  // one more sum
        (is_limit ? out.d_x.limit : out.d_x.freedom)[at] =
            is_limit ? with_rounding(in.final_rounding, d_x_dtype, d_x[at], error) : error;

        Column& column = columns[channel];
        const double term = in.d_y[at] * vhat;
        column.terms.add(term);
        column.row_errors += term * term * g.rstd_error * g.rstd_error;  // differ from row to row
        column.function_errors += std::fabs(term) * g.v_error[i];
        column.floor += std::fabs(in.d_y[at]) * g.rstd * g.v_floor[i] + kTiny;
      }
    }
    for (std::int64_t channel = 0; channel < in.width; ++channel) {
      const Column& s = columns[channel];
      // A term: vhat and the product are rounded, rstd has its own error.
      const double error = order_error(s.terms, static_cast<double>(in.rows), b.per_element, in.contract) +
                           b.rounding * term_error(s.terms, 2, b.per_element) +
                           b.per_element * std::sqrt(s.row_errors) + s.function_errors + s.floor;
      (is_limit ? out.d_weight.limit : out.d_weight.freedom)[channel] =
          is_limit ? with_rounding(in.final_rounding, in.dtype, d_weight[channel], error) : error;
    }
  }
  return out;
}

Tolerance sum_tolerance(std::span<const double> sum, DType dtype, bool final_rounding) {
  Tolerance out = make_tolerance(sum.size());
  for (std::size_t i = 0; i < sum.size(); ++i) {
    // The float32 sum is rounded once more only if it is stored narrower.
    const double error = dtype == DType::float32 ? 0 : kUnit * std::fabs(sum[i]);
    out.limit[i] = with_rounding(final_rounding, dtype, sum[i], error);
  }
  return out;
}

}  // namespace assay::harness
