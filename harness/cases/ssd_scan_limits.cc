// Derivations in the notation of float_errors.h. For one batch row and head, over the tokens of one document:
//
//   Delta_t = clamp(softplus(dt_t + dt_bias))     d_t = Delta_t A     a_t = e^d_t
//   h_t = a_t h_{t-1} + Delta_t x_t B_t
//   y_t = sum_j q_j,  q_j = sum_n t_jn,  t_jn = C_tn B_jn L_tj Delta_j x_j,  L_tj = exp(sum of d over (j, t]);
//   where the initial state goes on, it is one more j, q = sum_n C_tn L_t h_n; then D x_t, then silu(z_t)
//
// A kernel may go token by token or in chunks of any length up to kLongestChunk, so the limit covers all of them:
//
//   sums        over the state first, then over tokens, or the other way round: order_error of all t_jn and q_j with
//               N + (tokens) steps. What is carried from token to token or chunk to chunk is h: sum_n (C_tn h_n)^2, of
//               each n's largest decayed h so far, counts among the squares.
//   roundings   of float32 products around a term: six at most (G L Delta x; U B x E; the sums' own come above).
//   operands    where the contract rounds operands of products: of what one token adds either the weight G L Delta is
//               an operand, or U B for each n, whichever is larger; and the carried h. Stored float32 operands (C and
//               B; x) are rounded, too.
//   exponents   e^cum_t, cum a float32 sum of d within a chunk. A step's Delta errs by e_s |A|, a function's and so
//               taken at its worst, and moves all that is older by the same factor: |P_s| e_s, P_s = sum of q_j, j < s;
//               token by token, e^d_s has a function's error, too. The sum's roundings, u c_s with c_s = sum of |d|
//               over the last kLongestChunk tokens, move the same prefix where sums go on token by token: variance 2 (u
//               c_s P_s)^2 / 3 with the product's; where they are trees, partial sums of c, c/2, c/4, ... on the way up
//               and down, cum_t has the variance 2 (4/3) (u c)^2 / 3, and so has each cum_j: sqrt(8/3) u c (|y|, and
//               sqrt(sum q_j^2)) / sqrt(3).
//   functions   exp of L_tj; Delta_j as a factor: at their worst.
//   floor       what is lost below 2^-126 (kTiny), once for each intermediate result, times the factors it has yet to
//               meet. Of t_jn, L <= 1 left out: C B and C B L -> Delta x;  C B L Delta -> x;  L -> C B Delta x;
//               L Delta -> C B x;  L Delta B -> C x;  Delta x -> C B;  x B -> C Delta;  h -> C;  y -> 1. A stored
//               operand of a tensor core errs by operand_floor besides, whatever else is in t_jn being large.
//
// The final state is the same with t_jn = L_Tj Delta_j x_j B_jn in the place of q_j.
#include "harness/cases/ssd_scan_limits.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "harness/cases/ssd_scan_parts.h"

namespace assay::harness {
namespace {

using Values = std::vector<double>;

// The state of one head along time, [head_dim, state_size], with what its errors are made of.
class State {
 public:
  // `initial`: of all rows and heads; empty: zeros. `stored_floor`: of an operand that is stored.
  State(const ScanOperands& in, std::int64_t row, std::int64_t head, std::span<const double> initial,
        double stored_floor)
      : in_(in),
        row_(row),
        head_(head),
        count_(in.head_dim * in.state_size),
        stored_floor_(stored_floor),
        h_(size(count_)),
        squares_(h_),
        magnitudes_(h_),
        largest2_(h_),
        drift_(h_),
        walk2_(h_),
        functions_(h_),
        floor_(h_) {
    if (initial.empty()) return;
    tokens_ = 1;
    for (std::size_t i = 0; i < h_.size(); ++i) {
      h_[i] = initial[size((row * in.heads + head) * count_) + i], magnitudes_[i] = std::fabs(h_[i]);
      squares_[i] = largest2_[i] = h_[i] * h_[i];
    }
  }

  void step(const Head& s, std::int64_t t) {
    const std::int64_t token = row_ * in_.seq_len + t, N = in_.state_size;
    const double a = s.decay[size(t)], delta = s.delta[size(t)], c = s.window[size(t)];
    tokens_ = s.begins[size(t)] == t ? 1 : tokens_ + 1;
    window_ = std::max(window_, c);
    const double *x = &in_.x[size((token * in_.heads + head_) * in_.head_dim)],
                 *B = &in_.B[size((token * in_.groups + in_.group_of(head_)) * N)];
    for (std::int64_t p = 0; p < in_.head_dim; ++p)
      for (std::int64_t n = 0; n < N; ++n) {
        const std::size_t i = size(p * N + n);
        const double kept = a * h_[i], Bx = B[n] * x[p], added = delta * Bx;
        h_[i] = kept + added;
        squares_[i] = a * a * squares_[i] + added * added;
        magnitudes_[i] = a * magnitudes_[i] + std::fabs(added);
        largest2_[i] = std::max(a * a * largest2_[i], h_[i] * h_[i]);
        drift_[i] = a * drift_[i] + s.drift[size(t)] * std::fabs(kept);
        walk2_[i] = a * a * walk2_[i] + 2 * c * c * kept * kept;
        functions_[i] = a * functions_[i] + std::fabs(Bx) * s.delta_error[size(t)];
        const double B1 = std::fabs(B[n]), x1 = std::fabs(x[p]);
        floor_[i] += (1 + x1 + B1 + delta + (1 + delta) * B1 * x1) * kTiny + delta * (B1 + x1) * stored_floor_;
      }
  }

  // sum_n C_n^2 times the largest carried square of each n.
  double carried2(const double* C, std::int64_t p) const {
    double sum = 0;
    for (std::int64_t n = 0; n < in_.state_size; ++n) sum += C[n] * C[n] * largest2_[size(p * in_.state_size + n)];
    return sum;
  }

  Parts parts(std::int64_t i, const assay_contract& contract) const {
    const std::size_t at = size(i);
    Parts p;
    p.value = h_[at];
    if (window_ < 0) return p;  // no token: a copy
    p.tokens2 = p.operands2 = squares_[at];
    p.stored2 = squares_[at];
    p.carried2 = largest2_[at];
    p.magnitudes = magnitudes_[at];
    p.steps = accumulator_updates(tokens_, contract) + 1;
    p.drift = drift_[at], p.walk2 = walk2_[at], p.window = window_;
    p.functions = functions_[at] + magnitudes_[at] * exp_error(0, contract);
    p.floor = floor_[at] + kTiny;
    return p;
  }
  std::int64_t count() const { return count_; }

 private:
  const ScanOperands& in_;
  std::int64_t row_, head_, count_;
  double stored_floor_;
  Values h_, squares_, magnitudes_, largest2_, drift_, walk2_, functions_, floor_;
  double tokens_ = 0;   // that the state is made of
  double window_ = -1;  // the largest c of all tokens; -1: there was none
};

// y of one head at one token, all channels.
class Output {
 public:
  Output(const ScanOperands& in, std::int64_t row, std::int64_t head, const Head& steps, const Products& products,
         const assay_contract& contract, double stored_floor)
      : in_(in),
        row_(row),
        head_(head),
        s_(steps),
        g_(products),
        contract_(contract),
        stored_floor_(stored_floor),
        parts_(size(in.head_dim)),
        exponents_(size(in.seq_len)) {}

  const std::vector<Parts>& at(std::int64_t t, const State& state) {
    const std::int64_t begin = s_.begins[size(t)], first = std::max<std::int64_t>(begin, 0);
    std::fill(parts_.begin(), parts_.end(), Parts{});
    std::int64_t j = t;
    double exponent = 0, window = 0;
    for (;; --j) {
      exponents_[size(j)] = exponent;
      window = std::max(window, s_.window[size(j)]);
      exponent += s_.exponent[size(j)];
      if (j == first || exponent < kNothingLeft) break;
    }
    const double* C = &in_.C[size(((row_ * in_.seq_len + t) * in_.groups + in_.group_of(head_)) * in_.state_size)];
    const double C_magnitudes = magnitudes(C);
    if (begin < 0 && j == 0 && !in_.initial_state.empty()) add_initial(C, std::exp(exponent), exponent);
    for (; j <= t; ++j) add_token(t, j, C_magnitudes);
    for (std::int64_t p = 0; p < in_.head_dim; ++p) finish(parts_[size(p)], t, p, first, window, C, state);
    return parts_;
  }

 private:
  double magnitudes(const double* vector) const {
    double sum = 0;
    for (std::int64_t n = 0; n < in_.state_size; ++n) sum += std::fabs(vector[n]);
    return sum;
  }

  void add_initial(const double* C, double decay, double exponent) {
    const double* initial = &in_.initial_state[size((row_ * in_.heads + head_) * in_.head_dim * in_.state_size)];
    for (std::int64_t p = 0; p < in_.head_dim; ++p) {
      Parts& out = parts_[size(p)];
      for (std::int64_t n = 0; n < in_.state_size; ++n) {
        const double term = C[n] * decay * initial[p * in_.state_size + n];
        out.value += term, out.products2 += term * term, out.magnitudes += std::fabs(term);
        const double C1 = std::fabs(C[n]), h1 = std::fabs(initial[p * in_.state_size + n]);
        out.floor += (1 + C1) * (1 + h1) * kTiny + decay * h1 * stored_floor_;
      }
      out.tokens2 += out.value * out.value;
      out.functions += std::fabs(out.value) * exp_error(exponent, contract_);
    }
  }

  void add_token(std::int64_t t, std::int64_t j, double C_magnitudes) {
    const double L = std::exp(exponents_[size(j)]), LDelta = L * s_.delta[size(j)], G = g_.sum[g_.at(t, j)];
    const double weight = G * LDelta, squares = LDelta * LDelta * g_.squares[g_.at(t, j)];
    const double CB = g_.magnitudes[g_.at(t, j)], delta = s_.delta[size(j)];
    const double B_magnitudes =
        magnitudes(&in_.B[size(((row_ * in_.seq_len + j) * in_.groups + in_.group_of(head_)) * in_.state_size)]);
    const double function = std::fabs(G) * L * s_.delta_error[size(j)] +
                            (j == t ? 0 : std::fabs(weight) * exp_error(exponents_[size(j)], contract_));
    const double drift = s_.drift[size(j)], c2 = 2 * s_.window[size(j)] * s_.window[size(j)];
    const double floor = (CB + C_magnitudes * (1 + delta)) * kTiny + CB * LDelta * stored_floor_;
    const double floor_of_x =
        (1 + delta + CB * (1 + delta) + C_magnitudes) * kTiny + LDelta * (C_magnitudes + B_magnitudes) * stored_floor_;
    const double* x = &in_.x[size(((row_ * in_.seq_len + j) * in_.heads + head_) * in_.head_dim)];
    for (std::int64_t p = 0; p < in_.head_dim; ++p) {
      Parts& out = parts_[size(p)];
      const double q = weight * x[p], x2 = x[p] * x[p], before = out.value;
      out.drift += drift * std::fabs(before);
      out.walk2 += c2 * before * before;
      out.value += q;
      out.tokens2 += q * q;
      out.products2 += squares * x2;
      out.operands2 += std::max(q * q, squares * x2);
      out.magnitudes += LDelta * CB * std::fabs(x[p]);
      out.functions += function * std::fabs(x[p]);
      out.floor += floor + floor_of_x * std::fabs(x[p]);
    }
  }

  void finish(Parts& out, std::int64_t t, std::int64_t p, std::int64_t first, double window, const double* C,
              const State& state) const {
    out.carried2 = state.carried2(C, p);
    out.stored2 = out.operands2 + 2 * out.products2 + out.carried2;
    out.operands2 += out.carried2;
    out.window = window;
    out.steps = accumulator_updates(static_cast<double>(in_.state_size), contract_) +
                accumulator_updates(static_cast<double>(t - first + 1), contract_) + 2;
    out.floor += kTiny;
    if (in_.D.empty()) return;
    const double skip = in_.D[size(in_.D_per_channel ? head_ * in_.head_dim + p : head_)] *
                        in_.x[size(((row_ * in_.seq_len + t) * in_.heads + head_) * in_.head_dim + p)];
    out.value += skip, out.tokens2 += skip * skip, out.magnitudes += std::fabs(skip), out.floor += kTiny;
  }

  const ScanOperands& in_;
  std::int64_t row_, head_;
  const Head& s_;
  const Products& g_;
  const assay_contract& contract_;
  double stored_floor_;
  std::vector<Parts> parts_;
  Values exponents_;  // of L_tj
};

// Writes what one head of one row contributes.
class HeadTolerance {
 public:
  HeadTolerance(const ScanOperands& in, std::int64_t row, std::int64_t head, const assay_contract& contract, bool exact)
      : in_(in),
        row_(row),
        head_(head),
        contract_(contract),
        errors_(in.dtype, contract),
        stored_floor_(in.dtype == DType::float32 ? operand_floor(contract) : 0),
        exact_(exact),
        steps_(head_at(in, row, head, contract)),
        only_functions_err_(exact && steps_.decays_are_exact) {}

  void scan(const Products& products, Tolerance& y, Tolerance& final_state) const {
    State state(in_, row_, head_, in_.initial_state, stored_floor_);
    Output output(in_, row_, head_, steps_, products, contract_, stored_floor_);
    for (std::int64_t t = 0; t < in_.seq_len; ++t) {
      state.step(steps_, t);
      const std::vector<Parts>& parts = output.at(t, state);
      for (std::int64_t p = 0; p < in_.head_dim; ++p)
        put_y(y, size(((row_ * in_.seq_len + t) * in_.heads + head_) * in_.head_dim + p), parts[size(p)]);
    }
    put_state(final_state, row_, DType::float32, state);
  }

  void document(std::int64_t m, Tolerance& varlen_states) const {
    State state(in_, row_, head_, {}, stored_floor_);
    const auto end = static_cast<std::int64_t>(in_.cu_seqlens[size(m + 1)]);
    for (auto t = static_cast<std::int64_t>(in_.cu_seqlens[size(m)]); t < end; ++t) state.step(steps_, t);
    put_state(varlen_states, m, in_.dtype, state);
  }

 private:
  double error(const Parts& parts, const Budget& b) const { return only_functions_err_ ? 0 : errors_.of(parts, b); }

  void put_y(Tolerance& out, std::size_t i, const Parts& parts) const {
    double value = parts.value, limit = error(parts, kLimit), freedom = error(parts, kFreedom);
    if (!in_.z.empty()) {
      constexpr Budget kFunctionsAlone{0, 0, 0};
      limit = gated(value, limit, in_.z[i], only_functions_err_ ? kFunctionsAlone : kLimit);
      freedom = gated(value, freedom, in_.z[i], kFreedom);
      value *= in_.z[i] / (1 + std::exp(-in_.z[i]));
    }
    out.limit[i] = with_rounding(!exact_, in_.dtype, value, limit);
    out.freedom[i] = freedom;
  }

  // The error of value silu(z), `before` being that of the value.
  double gated(double value, double before, double z, const Budget& b) const {
    const Gate gate = gate_at(z, b, contract_);
    return before * std::fabs(gate.silu) + std::fabs(value * gate.silu) * (gate.silu_error + b.rounding * kUnit) +
           std::fabs(value) * kSiluFloor + kTiny;
  }

  // `place`: which of the output's states, one for each head.
  void put_state(Tolerance& out, std::int64_t place, DType dtype, const State& state) const {
    for (std::int64_t i = 0; i < state.count(); ++i) {
      const Parts parts = state.parts(i, contract_);
      const std::size_t at = size((place * in_.heads + head_) * state.count() + i);
      out.limit[at] = with_rounding(!exact_, dtype, parts.value, error(parts, kLimit));
      out.freedom[at] = error(parts, kFreedom);
    }
  }

  const ScanOperands& in_;
  std::int64_t row_, head_;
  const assay_contract& contract_;
  Errors errors_;
  double stored_floor_;
  bool exact_;
  Head steps_;
  bool only_functions_err_;
};

}  // namespace

ScanOperands scan_operands(const Call& call) {
  const Shape &x = call.tensor("input.x").shape, &B = call.tensor("input.B").shape;
  const auto values = [&](const char* name) {
    const HostTensor* t = call.find(name);
    return t ? t->to_double() : Values();
  };
  return {.batch = x[0],
          .seq_len = x[1],
          .heads = x[2],
          .head_dim = x[3],
          .groups = B[2],
          .state_size = B[3],
          .x = values("input.x"),
          .dt = values("input.dt"),
          .A = values("input.A"),
          .B = values("input.B"),
          .C = values("input.C"),
          .D = values("input.D"),
          .z = values("input.z"),
          .dt_bias = values("input.dt_bias"),
          .initial_state = values("input.initial_state"),
          .seq_idx = values("input.seq_idx"),
          .cu_seqlens = call.find("output.varlen_states") ? values("input.cu_seqlens") : Values(),
          .D_per_channel = call.find("input.D") && call.tensor("input.D").shape.size() == 2,
          .dt_softplus = call.integer("dt_softplus") != 0,
          // As a kernel has them.
          .dt_min = static_cast<float>(call.number("dt_min")),
          .dt_max = static_cast<float>(call.number("dt_max")),
          .dtype = call.tensor("input.x").dtype};
}

ScanTolerance scan_tolerance(const ScanOperands& in, const assay_contract& contract, bool exact) {
  const std::int64_t states = in.heads * in.head_dim * in.state_size;
  ScanTolerance out{.y = make_tolerance(size(in.batch * in.seq_len * in.heads * in.head_dim)),
                    .final_state = make_tolerance(size(in.batch * states)),
                    .varlen_states = make_tolerance(size(in.documents() * states))};
  for (std::int64_t row = 0; row < in.batch; ++row)
    for (std::int64_t group = 0; group < in.groups; ++group) {
      const Products products = products_of(in, row, group);
      const std::int64_t heads = in.heads / in.groups;
      for (std::int64_t head = group * heads; head < (group + 1) * heads; ++head) {
        const HeadTolerance tolerance(in, row, head, contract, exact);
        tolerance.scan(products, out.y, out.final_state);
        for (std::int64_t m = 0; m < in.documents(); ++m) tolerance.document(m, out.varlen_states);
      }
    }
  return out;
}

}  // namespace assay::harness
