// Derivations in the notation of float_errors.h. With e(.) the error of a value that one part hands to the next:
//
//   h'_n = a h_n + (B_n Delta) x        e(h'_n) adds Delta (|B_n| e(x) + (|x| + e(x)) e(B_n))
//   y = sum_n h'_n C_n + D x            e(y) adds |D + sum_n C_n B_n Delta| e(x), since one x stands in every h'_n;
//                                       sum_n C_n Delta x e(B_n) + h'_n e(C_n), each B_n and C_n having a draw of its
//                                       own; and the products of two errors
//   v = y silu(z), Q = sum v^2 + n eps  e(Q) <= 2 sum |v| e(v) + sum e(v)^2, of which the roundings of y and e(x) are
//   drawn
//                                       for each channel, while B, C and the sums' own errors may be common to all
//   out = w v / sqrt(Q / n)             e(out) adds |w| rstd e(v) and |out| (1 / sqrt(1 - e(Q) / Q) - 1); out cannot
//                                       exceed |w| sqrt(n)
//
// A draw that is known by its worst case alone is uniform: sqrt(3) deviations of it.
#include "harness/cases/mamba2_decode_step_limits.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "harness/cases/conv_limits.h"
#include "harness/cases/norm_case.h"
#include "harness/cases/norm_limits.h"
#include "harness/cases/ssm_state_update_limits.h"

namespace assay::harness {
namespace {

struct Axes {
  explicit Axes(const Call& call)
      : batch(call.tensor("input.projected").shape[0]),
        width(call.tensor("input.projected").shape[1]),
        heads(call.tensor("state").shape[1]),
        head_dim(call.tensor("state").shape[2]),
        state_size(call.tensor("state").shape[3]),
        groups(call.integer("groups")),
        channels(call.tensor("conv_state").shape[1]),
        taps(call.tensor("param.conv_weight").shape[1]),
        inner(heads * head_dim) {}
  std::int64_t batch, width, heads, head_dim, state_size, groups, channels, taps, inner;
};

// Columns first .. first + width of every row.
std::vector<double> columns(std::span<const double> rows, std::int64_t count, std::int64_t first, std::int64_t width) {
  const std::int64_t stride = count == 0 ? 0 : static_cast<std::int64_t>(rows.size()) / count;
  std::vector<double> result;
  for (std::int64_t row = 0; row < count; ++row)
    result.insert(result.end(), rows.begin() + row * stride + first, rows.begin() + row * stride + first + width);
  return result;
}

// `count` draws, each with its worst case: of all together, and never more than all at their worst.
struct Draws {
  double squares = 0, magnitudes = 0;
  void add(double error) { squares += error * error, magnitudes += std::fabs(error); }
  double total(const Budget& b) const {
    return std::min(std::max(1.0, b.per_element / std::sqrt(3.0)) * std::sqrt(squares), magnitudes);
  }
};

// The step's second part as a call of its own, on the oracle's x, B and C.
Call state_update_call(const Call& call, const Axes& n, const HostTensor& before, const DecodeStepValues& values,
                       std::span<const double> projected) {
  const std::string op = "ssm_state_update.forward";
  const DType dtype = call.tensor("input.projected").dtype, single = DType::float32;
  const std::int64_t keys = n.groups * n.state_size;
  Call update{op, {{"dt_softplus", std::int64_t{1}}}, {}};
  const auto add = [&](const char* name, DType type, Shape shape, const std::vector<double>& of) {
    update.tensors.push_back(case_tensor(op, name, type, std::move(shape), of));
  };
  add("input.x", single, {n.batch, n.heads, n.head_dim}, columns(values.xBC, n.batch, 0, n.inner));
  add("input.dt", dtype, {n.batch, n.heads}, columns(projected, n.batch, n.inner + n.channels, n.heads));
  add("input.A", single, {n.heads}, call.tensor("param.A").to_double());
  add("input.B", single, {n.batch, n.groups, n.state_size}, columns(values.xBC, n.batch, n.inner, keys));
  add("input.C", single, {n.batch, n.groups, n.state_size}, columns(values.xBC, n.batch, n.inner + keys, keys));
  add("input.D", single, {n.heads}, call.tensor("param.D").to_double());
  add("input.dt_bias", single, {n.heads}, call.tensor("param.dt_bias").to_double());
  if (const HostTensor* rows = call.find("input.state_batch_indices"))
    add("input.state_batch_indices", DType::int32, {n.batch}, rows->to_double());
  update.tensors.push_back(before);
  add("output.y", dtype, {n.batch, n.heads, n.head_dim}, {});
  return update;
}

// A limit with its half ulp, further off by `error`.
double widened(DType dtype, double value, double limit, double error) {
  const double largest = std::fabs(value) + limit + error;
  if (!std::isfinite(largest)) return largest;
  return limit + error + 0.5 * std::max(0.0, ulp(dtype, largest) - ulp(dtype, value));
}

}  // namespace

DecodeStepTolerance decode_step_tolerance(const Call& call, const HostTensor& before, const DecodeStepValues& values,
                                          const assay_contract& contract, bool exact) {
  const Axes n(call);
  const DType dtype = call.tensor("input.projected").dtype;
  const std::vector<double> projected = call.tensor("input.projected").to_double(),
                            conv_weight = call.tensor("param.conv_weight").to_double(),
                            norm_weight = call.tensor("param.norm_weight").to_double(), state = before.to_double(),
                            z = columns(projected, n.batch, 0, n.inner),
                            xBC = columns(projected, n.batch, n.inner, n.channels),
                            dt = columns(projected, n.batch, n.inner + n.channels, n.heads);
  const std::vector<double> conv_bias =
      call.find("param.conv_bias") ? call.tensor("param.conv_bias").to_double() : std::vector<double>();
  Tolerance conv = conv_forward_tolerance({.batch = n.batch,
                                           .seq_len = 1,
                                           .channels = n.channels,
                                           .taps = n.taps,
                                           .silu = true,
                                           .x = xBC,
                                           .weight = conv_weight,
                                           .bias = conv_bias,
                                           .initial_state = values.conv_past,
                                           .d_final_state = {},
                                           .seq_idx = {},
                                           .d_y = {},
                                           .dtype = dtype,
                                           .contract = contract,
                                           .exact = exact});
  // 0 and 128 j are bfloat16 numbers: functions that err by some units before that rounding do not move them.
  if (exact && dtype == DType::bfloat16) std::fill(conv.limit.begin(), conv.limit.end(), 0.0);

  const Call update = state_update_call(call, n, before, values, projected);
  StateUpdateTolerance rounded = state_update_tolerance(update, state, contract, false);
  DecodeStepTolerance out{.out = norm_forward_tolerance({.rows = n.batch,
                                                         .width = n.inner,
                                                         .group = n.inner / n.groups,
                                                         .eps = call.number("eps"),
                                                         .x = values.y,
                                                         .gate = z,
                                                         .weight = norm_weight,
                                                         .d_y = {},
                                                         .d_x_extra = {},
                                                         .dtype = dtype,
                                                         .contract = contract},
                                                        values.out),
                          .state = exact ? state_update_tolerance(update, state, contract, true).state : rounded.state};

  const HostTensor* rows = call.find("input.state_batch_indices");
  const std::vector<double> A = call.tensor("param.A").to_double(), D = call.tensor("param.D").to_double(),
                            dt_bias = call.tensor("param.dt_bias").to_double();
  const std::int64_t keys = n.groups * n.state_size, group_size = n.inner / n.groups;
  for (const bool is_limit : {true, false}) {
    const Budget& b = is_limit ? kLimit : kFreedom;
    const std::vector<double>&conv_error = is_limit ? conv.limit : conv.freedom,
          &y_error = is_limit ? rounded.y.limit : rounded.y.freedom;
    std::vector<double>& state_error = is_limit ? out.state.limit : out.state.freedom;
    for (std::int64_t row = 0; row < n.batch; ++row) {
      const auto cache_row = rows ? static_cast<std::int64_t>(rows->at(row)) : row;
      if (cache_row < 0) continue;
      const double *x = &values.xBC[row * n.channels], *ex = &conv_error[row * n.channels];
      for (std::int64_t group = 0; group < n.groups; ++group) {
        const double *B = x + n.inner + group * n.state_size, *C = B + keys;
        const double *eB = ex + n.inner + group * n.state_size, *eC = eB + keys;
        std::vector<double> v_error(group_size);
        Draws own;  // of v e(v), drawn for each channel
        double common = 0, squares = 0, sum = static_cast<double>(group_size) * call.number("eps");  // sum: Q
        for (std::int64_t i = 0; i < group_size; ++i) {
          const std::int64_t channel = group * group_size + i, head = channel / n.head_dim,
                             at = row * n.inner + channel;
          const double v = dt[row * n.heads + head] + dt_bias[head];
          const double delta = v > 20 ? v : std::log1p(std::exp(v)), decay = std::exp(delta * A[head]);
          const std::int64_t first = (cache_row * n.inner + channel) * n.state_size;
          double by_x = D[head], products = 0;
          Draws by_keys;
          for (std::int64_t k = 0; k < n.state_size; ++k) {
            const double next = decay * state[first + k] + delta * B[k] * x[channel];
            const double added =
                delta * (std::fabs(B[k]) * ex[channel] + (std::fabs(x[channel]) + ex[channel]) * eB[k]);
            state_error[first + k] = is_limit && !exact ? widened(before.dtype, next, state_error[first + k], added)
                                                        : state_error[first + k] + added;
            by_x += C[k] * B[k] * delta;
            by_keys.add(C[k] * delta * x[channel] * eB[k]);
            by_keys.add(next * eC[k]);
            products += delta * ex[channel] * eB[k] * std::fabs(C[k]) + added * eC[k];
          }
          const double from_x = std::fabs(by_x) * ex[channel], from_keys = by_keys.total(b) + products;
          const double total = is_limit ? widened(dtype, values.y[at], y_error[at], from_x + from_keys)
                                        : y_error[at] + from_x + from_keys;
          const double rounding = is_limit && dtype == DType::bfloat16 ? 0.5 * ulp(dtype, values.y[at]) : 0;
          const double gate = std::fabs(z[at] / (1 + std::exp(-z[at]))), normed = gate * std::fabs(values.y[at]);
          v_error[i] = gate * total;
          own.add(normed * gate * (rounding + from_x));
          common += normed * gate * std::max(0.0, total - rounding - from_x);
          squares += v_error[i] * v_error[i];
          sum += normed * normed;
        }
        const double part = (2 * (own.total(b) + common) + squares) / sum;
        const double rstd = 1 / std::sqrt(sum / static_cast<double>(group_size));
        const double rstd_error = part < 1 ? 1 / std::sqrt(1 - part) - 1 : HUGE_VAL;  // relative
        for (std::int64_t i = 0; i < group_size; ++i) {
          const std::int64_t at = row * n.inner + group * group_size + i;
          const double weight = std::fabs(norm_weight[at % n.inner]), value = std::fabs(values.out[at]);
          const double most = weight * std::sqrt(static_cast<double>(group_size)) + value;
          const double error =
              part < 1 ? std::min(most, weight * rstd * v_error[i] * (1 + rstd_error) + value * rstd_error) : most;
          if (is_limit)
            out.out.limit[at] = widened(dtype, value, out.out.limit[at], error);
          else
            out.out.freedom[at] += error;
        }
      }
    }
  }
  return out;
}

}  // namespace assay::harness
