// Derivations in the notation of float_errors.h. For one batch row, head and channel p:
//
//   v = dt + dt_bias      Delta = softplus(v)      t = Delta A      a = e^t
//   h'_n = a h_n + (B_n Delta) x      y = (sum_n h'_n C_n + D x) silu(z)
#include "harness/cases/ssm_state_update_limits.h"

#include <algorithm>
#include <cmath>

#include "harness/cases/step_size.h"

namespace assay::harness {
namespace {

struct Decay {
  Value delta, a;
};
Decay decay_at(double dt, double bias, double A, bool softplus, const Budget& b, const assay_contract& contract) {
  const Value delta = step_size(dt, bias, softplus, b, contract);
  const double t = delta.value * A, a = std::exp(t);
  // e^0 is 1 in every function that PTX and CUDA document; elsewhere the function's error, and t's own.
  const double t_error = std::fabs(A) * delta.error + b.rounding * kUnit * std::fabs(t);
  const double function = t == 0 ? 0 : exp_error(t, contract);
  return {delta, {a, a * (std::expm1(t_error) + function) + (t == 0 ? 0 : kTiny)}};
}

class Axes {
 public:
  explicit Axes(const Call& call)
      : heads(call.tensor("input.x").shape[1]),
        head_dim(call.tensor("input.x").shape[2]),
        groups(call.tensor("input.B").shape[1]),
        state_size(call.tensor("input.B").shape[2]),
        batch(call.tensor("input.x").shape[0]) {}
  std::int64_t heads, head_dim, groups, state_size, batch;
};

double value_or(const HostTensor* t, std::int64_t i, double otherwise) { return t ? t->at(i) : otherwise; }

}  // namespace

StateUpdateTolerance state_update_tolerance(const Call& call, const std::vector<double>& before,
                                            const assay_contract& contract, bool exact) {
  const Axes n(call);
  const HostTensor &x = call.tensor("input.x"), &dt = call.tensor("input.dt"), &A = call.tensor("input.A"),
                   &B = call.tensor("input.B"), &C = call.tensor("input.C"), &state = call.tensor("state");
  const HostTensor *D = call.find("input.D"), *z = call.find("input.z"), *bias = call.find("input.dt_bias"),
                   *rows = call.find("input.state_batch_indices");
  const bool softplus = call.integer("dt_softplus") != 0;
  const DType y_dtype = call.tensor("output.y").dtype;

  StateUpdateTolerance out;
  out.y.limit.resize(x.size()), out.y.freedom.resize(x.size());
  out.state.limit.resize(before.size()), out.state.freedom.resize(before.size());
  constexpr Budget kFunctionsAlone{0, 0, 0};
  for (const bool is_limit : {true, false}) {
    const Budget b = !is_limit ? kFreedom : exact ? kFunctionsAlone : kLimit;
    const double u = b.rounding * kUnit;
    for (std::int64_t row = 0; row < n.batch; ++row) {
      const auto cache_row = static_cast<std::int64_t>(value_or(rows, row, static_cast<double>(row)));
      if (cache_row < 0) continue;  // padding: y is 0, no state changes
      for (std::int64_t head = 0; head < n.heads; ++head) {
        const Decay d =
            decay_at(dt.at(row * n.heads + head), value_or(bias, head, 0), A.at(head), softplus, b, contract);
        const double a = d.a.value, delta = d.delta.value;
        const std::int64_t group = (row * n.groups + head / (n.heads / n.groups)) * n.state_size;
        for (std::int64_t p = 0; p < n.head_dim; ++p) {
          const std::int64_t at = (row * n.heads + head) * n.head_dim + p;
          const std::int64_t first = ((cache_row * n.heads + head) * n.head_dim + p) * n.state_size;
          const double xp = x.at(at);
          // Delta and a are one draw for all n: their errors enter y as sum_n C_n B_n x and sum_n C_n h_n. What each n
          // draws for itself: a product and a sum of a h, two products and the same sum of B Delta x, a product with C.
          Sum terms, roundings;
          double by_delta = 0, by_a = 0, floor = kTiny;
          for (std::int64_t i = 0; i < n.state_size; ++i) {
            const double h = before[first + i], Bx = B.at(group + i) * xp, c = C.at(group + i);
            const double kept = a * h, added = delta * Bx, next = kept + added;
            const double tiny = (1 + std::fabs(h) + std::fabs(xp)) * kTiny;
            double error = std::fabs(h) * d.a.error + std::fabs(Bx) * d.delta.error +
                           u * (std::fabs(kept) + 2 * std::fabs(added) + std::fabs(next));
            if (!exact) error += tiny;
            if (is_limit)
              out.state.limit[first + i] = with_rounding(!exact, state.dtype, next, error);
            else
              out.state.freedom[first + i] = error;
            terms.add(next * c);
            for (const double r : {kept, added, added, next, next}) roundings.add(r * c);
            by_delta += Bx * c, by_a += h * c, floor += std::fabs(c) * tiny + kTiny;
          }
          double steps = static_cast<double>(n.state_size);
          if (D) {
            const double skip = D->at(D->shape.size() == 2 ? head * n.head_dim + p : head) * xp;
            terms.add(skip), roundings.add(skip), steps += 1, floor += kTiny;
          }
          double error = std::fabs(by_delta) * d.delta.error + std::fabs(by_a) * d.a.error +
                         order_error(terms, steps, b.per_element, contract) +
                         b.rounding * term_error(roundings, 1, b.per_element);
          if (!exact) error += floor;
          double y = terms.total;
          if (z) {
            const Gate gate = gate_at(z->at(at), b, contract);
            error = error * std::fabs(gate.silu) + std::fabs(y * gate.silu) * (gate.silu_error + u) +
                    std::fabs(y) * kSiluFloor + kTiny;
            y *= gate.silu;
          }
          if (is_limit)
            out.y.limit[at] = with_rounding(!exact, y_dtype, y, error);
          else
            out.y.freedom[at] = error;
        }
      }
    }
  }
  return out;
}

}  // namespace assay::harness
