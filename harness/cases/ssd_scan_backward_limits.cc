// Derivations as in ssd_scan_limits.cc, by the recurrence run backwards. Of one head, with dy after the gate:
//
//   h_t = a_t h_{t-1} + Delta_t x_t B_t       q_t = a_{t+1} q_{t+1} + dy_t C_t,  q after the last token d_final_state
//   dx_t = D dy_t + Delta_t q_t B_t           dB_t = sum Delta_t x_t q_t     dC_t = sum dy_t h_t    over p, heads
//   in_t = x_t . (q_t B_t)                    e_t = a_t <q_t, h_{t-1}>
//   dDelta_t = A e_t + in_t                   dA = sum Delta_t e_t           ddt_t = dDelta_t softplus'
//
// h and q are sums over tokens; each carries, along time, the sums over its terms that an error is made of (Field), and
// each gradient is a sum of them with known factors (weigh), or of both (e_t). Beside what ssd_scan_limits.cc names:
//
//   pairs       chunks sum over channels and over the state first: M_tj = W_tj L_tj Delta_j, W_tj = dy_t . x_j, and
//               G_tj = C_t . B_j. A product of them errs by its own size, however small the terms that it is made of
//               are left after cancelling: squares of W G L count as max(W^2, sum of its squares) max(G^2, sum of
//               squares). M summed over a group's heads is an operand of dB and dC, G L of dx and in, both by pair.
//   operands    where the contract rounds them: pairs; the increments U B and E C, sum of squares of all terms; h and q
//               where chunks begin, sum of squares of their largest. Chunks are the kernel's own, and the reference's
//               are long: h and q of a kernel with shorter ones are rounded more often, and that is a freedom.
//   shared      e_t of neighbouring t share their roundings. In sums over t deviations of e_t add, not variances; so do
//               those of the carried part of in_t.
//   exponents   of dB and dC by head: cum_t moves what a head adds to one, the other cum their terms M C and M B.
//   gate        bfloat16 stores dy silu(z): one more rounding of each term. The products that dD is made of come
//               before.
//   slope       softplus' = 1 / (1 + e^-v): expf, a sum, a division, 8 u; v's rounding moves it by |v| u at most.
//   floor       each intermediate result times the factors it has yet to meet, L <= 1 left out; a stored operand of a
//               tensor core loses operand_floor, dy besides what silu(z) loses where it underflows. By pair:
//               W = dy . x      its operands' losses, the product, times L -> Delta and all that M meets
//               M = W L Delta   those; L -> W Delta;  L Delta -> W;  M -> 1; an operand of dB and dC
//               G = C . B       its operands' losses -> L and W Delta, or dy
//               By h and q: what a token adds, its products and their operands -> all that they meet, and the field as
//               an operand itself.
#include "harness/cases/ssd_scan_backward_limits.h"

#include <algorithm>
#include <cmath>

#include "harness/cases/ssd_scan_parts.h"
#include "harness/cases/step_size.h"

namespace assay::harness {
namespace {

using Values = std::vector<double>;

constexpr double kSlopeRoundings = 8;

// A state, or the gradient of one: [head_dim * state_size].
struct Field {
  Values value, squares, magnitudes, largest2, drift, walk2, floor;

  // `operand`: what is lost of an operand.
  Field(std::size_t count, double operand) {
    for (Values* v : {&value, &squares, &magnitudes, &largest2, &drift, &walk2}) v->resize(count);
    floor.assign(count, kTiny + operand);
    least_floor_ = kTiny + operand;
  }
  void start(const double* from) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      value[i] = from[i], magnitudes[i] = std::fabs(from[i]);
      squares[i] = largest2[i] = from[i] * from[i];
      floor[i] += magnitudes[i] * kTiny;
    }
  }
  // By the factor of token t.
  void decay(const Head& s, std::int64_t t) {
    const double a = s.decay[size(t)], e = s.drift[size(t)], c = s.window[size(t)];
    for (std::size_t i = 0; i < value.size(); ++i) {
      const double kept = a * value[i];
      value[i] = kept, squares[i] *= a * a, magnitudes[i] *= a, largest2[i] *= a * a;
      drift[i] = a * drift[i] + e * std::fabs(kept);
      walk2[i] = a * a * walk2[i] + 2 * c * c * kept * kept;
      if (a == 0) floor[i] = least_floor_;
    }
  }
  void add(std::size_t i, double term, double error, double lost) {
    value[i] += term, squares[i] += term * term, magnitudes[i] += std::fabs(term), drift[i] += error;
    floor[i] += lost;
    largest2[i] = std::max(largest2[i], value[i] * value[i]);
  }

 private:
  double least_floor_;
};

// Of a product of two operands, each losing `a_lost` or `b_lost` and the product kTiny.
double lost_of(double a, double a_lost, double b, double b_lost) {
  return std::fabs(a) * b_lost + std::fabs(b) * a_lost + kTiny;
}

// factor * f[i], as one more term of p; `lost` of the factor.
void weigh(Parts& p, const Field& f, std::size_t i, double factor, double lost) {
  const double w2 = factor * factor;
  p.value += factor * f.value[i], p.products2 += w2 * f.squares[i], p.carried2 += w2 * f.largest2[i];
  p.magnitudes += std::fabs(factor) * f.magnitudes[i];
  p.drift += std::fabs(factor) * f.drift[i], p.walk2 += w2 * f.walk2[i];
  p.floor += lost_of(factor, lost, f.magnitudes[i], f.floor[i]);
}

// What one head adds to an element of dB or dC.
struct OfHead {
  double value = 0, squares = 0;

  void add(double factor, const Field& f, std::size_t i) {
    value += factor * f.value[i], squares += factor * factor * f.squares[i];
  }
  // Of sums of exponents as trees, `pairs2` the squares of its terms by pair.
  double trees2(double window, double pairs2) const {
    return 8.0 / 3 * std::pow(window * (std::fabs(value) + std::sqrt(squares + pairs2)), 2);
  }
};

// p times a factor that errs by `error`.
Parts scaled(Parts p, double factor, double error) {
  const double size = std::fabs(factor) + error, square = size * size;
  p.functions = size * p.functions + std::fabs(p.value) * error;
  for (double* v : {&p.magnitudes, &p.drift, &p.floor}) *v *= size;
  for (double* v : {&p.tokens2, &p.products2, &p.carried2, &p.operands2, &p.stored2, &p.walk2}) *v *= square;
  p.value *= factor;
  return p;
}

// Variances add, or deviations do.
void add(Parts& to, const Parts& p, bool shared) {
  const auto sum = [&](double a, double b) { return shared ? std::pow(std::sqrt(a) + std::sqrt(b), 2) : a + b; };
  to.value += p.value, to.magnitudes += p.magnitudes, to.drift += p.drift, to.functions += p.functions;
  to.floor += p.floor, to.window = std::max(to.window, p.window), to.steps = std::max(to.steps, p.steps);
  to.tokens2 = sum(to.tokens2, p.tokens2), to.products2 = sum(to.products2, p.products2);
  to.operands2 = sum(to.operands2, p.operands2), to.stored2 = sum(to.stored2, p.stored2);
  to.walk2 = sum(to.walk2, p.walk2);
  to.carried2 = std::pow(std::sqrt(to.carried2) + std::sqrt(p.carried2), 2);
}

class Gradients {
 public:
  Gradients(const ScanOperands& in, const ScanGradientOperands& g, const assay_contract& contract)
      : in_(in),
        g_(g),
        contract_(contract),
        errors_(in.dtype, contract),
        T_(in.seq_len),
        H_(in.heads),
        P_(in.head_dim),
        N_(in.state_size),
        d_A_(size(H_)),
        d_bias_(size(H_)),
        gated_(g.d_y),
        gated_lost_(g.d_y.size(), in.dtype == DType::float32 ? operand_floor(contract) : 0),
        gate_error_(in.z.empty() ? 0 : gate_at(0, kLimit, contract).silu_error),
        stored_lost_(in.dtype == DType::float32 ? operand_floor(contract) : 0),
        operand_lost_(operand_floor(contract)) {
    for (std::size_t i = 0; i < in.z.size(); ++i) {
      const Gate gate = gate_at(in.z[i], kLimit, contract);
      gated_lost_[i] += std::fabs(gated_[i]) * kSiluFloor + kTiny;
      gated_[i] *= gate.silu;
      gate_error_ = std::max(gate_error_, gate.silu_error);
    }
    const std::size_t tokens = size(in.batch * T_), channels = size(H_ * P_);
    out_.x = make_tolerance(tokens * channels);
    out_.dt = make_tolerance(tokens * size(H_));
    out_.A = make_tolerance(size(H_));
    out_.B = out_.C = make_tolerance(tokens * size(in.groups * N_));
    out_.D = make_tolerance(in.D.size());
    out_.z = make_tolerance(in.z.size());
    out_.dt_bias = make_tolerance(in.dt_bias.size());
    out_.initial_state = make_tolerance(in.initial_state.size());
  }

  ScanGradientTolerance run() {
    for (std::int64_t row = 0; row < in_.batch; ++row)
      for (std::int64_t group = 0; group < in_.groups; ++group) one_group(row, group);
    for (std::int64_t head = 0; head < H_; ++head) {
      put(out_.A, size(head), DType::float32, d_A_[size(head)], 0);
      if (!in_.dt_bias.empty()) put(out_.dt_bias, size(head), DType::float32, d_bias_[size(head)], 0);
    }
    if (!in_.D.empty()) skip();
    if (!in_.z.empty()) gate();
    return std::move(out_);
  }

 private:
  std::size_t token_of(std::int64_t row, std::int64_t t) const { return size(row * T_ + t); }
  const double* vectors(const Values& v, std::int64_t row, std::int64_t t, std::int64_t group) const {
    return &v[(token_of(row, t) * size(in_.groups) + size(group)) * size(N_)];
  }
  const double* channels(const Values& v, std::int64_t row, std::int64_t t, std::int64_t head) const {
    return &v[(token_of(row, t) * size(H_) + size(head)) * size(P_)];
  }

  // What all parts share: sums of `terms` products at most, factors and what underflows.
  void finish(Parts& p, double pairs2, double terms) const {
    p.tokens2 += pairs2;
    p.operands2 = pairs2 + p.products2 + p.carried2;
    p.stored2 = p.operands2 + 2 * p.products2;
    p.steps = accumulator_updates(static_cast<double>(T_), contract_) + accumulator_updates(terms, contract_) + 4;
    p.functions += p.magnitudes * (2 * exp_error(0, contract_) + gate_error_);
    p.floor += kTiny;
  }

  // One element before its rounding to `dtype`; `certain`: an error beside.
  void put(Tolerance& out, std::size_t i, DType dtype, const Parts& p, double certain) const {
    const bool bf16 = in_.dtype == DType::bfloat16;
    const double state = bf16 ? operand_error(contract_) * std::sqrt((p.products2 + p.carried2) / 3) : 0;
    const double gated = bf16 && !in_.z.empty() ? 0x1p-8 * kLimit.per_element *
                                                      std::sqrt(std::max(p.tokens2, p.products2 + p.carried2) / 3)
                                                : 0;
    out.limit[i] = with_rounding(true, dtype, p.value, errors_.of(p, kLimit) + gated + certain);
    out.freedom[i] = errors_.of(p, kFreedom) + state + certain;
  }

  void one_group(std::int64_t row, std::int64_t group) {
    const Products G = products_of(in_, row, group);
    const std::int64_t heads = H_ / in_.groups;
    std::vector<Parts> d_B(size(T_ * N_)), d_C(size(T_ * N_));
    Values d_G(size(T_ * T_));
    for (std::int64_t head = group * heads; head < (group + 1) * heads; ++head) one_head(row, head, G, d_G, d_B, d_C);
    for (std::int64_t t = 0; t < T_; ++t)
      for (std::int64_t n = 0; n < N_; ++n) {
        double B2 = 0, C2 = 0;
        for (std::int64_t j = 0; j < T_; ++j) {
          const double of_C = j > t ? 0 : d_G[G.at(t, j)] * vectors(in_.B, row, j, group)[n];
          const double of_B = j < t ? 0 : d_G[G.at(j, t)] * vectors(in_.C, row, j, group)[n];
          C2 += of_C * of_C, B2 += of_B * of_B;
        }
        const std::size_t i = size(t * N_ + n),
                          to = (token_of(row, t) * size(in_.groups) + size(group)) * size(N_) + size(n);
        finish(d_B[i], B2, static_cast<double>(heads * P_));
        finish(d_C[i], C2, static_cast<double>(heads * P_));
        put(out_.B, to, in_.dtype, d_B[i], 0);
        put(out_.C, to, in_.dtype, d_C[i], 0);
      }
  }

  // Sums over pairs of one head, and what underflows of them.
  struct Pairs {
    Values x, x_lost;            // [tokens, head_dim]: of (G L dy)^2
    Values B, B_lost;            // [tokens, state_size]: of (M C)^2
    Values C, C_lost;            // [tokens, state_size]: of (M B)^2
    Values direct, direct_lost;  // [tokens]: of (W G L)^2, token j
    Values across, across_lost;  // [tokens]: of (M G)^2 with j before the token and t not
  };
  Pairs pairs_of(std::int64_t row, std::int64_t head, const Head& s, const Products& G, Values& d_G) const {
    const std::int64_t group = in_.group_of(head);
    Pairs out;
    for (Values* v : {&out.x, &out.x_lost}) v->resize(size(T_ * P_));
    for (Values* v : {&out.B, &out.B_lost, &out.C, &out.C_lost}) v->resize(size(T_ * N_));
    for (Values* v : {&out.direct, &out.direct_lost, &out.across, &out.across_lost}) v->resize(size(T_));
    Values squares(size(T_)), losses(size(T_)), B_magnitudes(size(T_));
    for (std::int64_t t = 0; t < T_; ++t) {
      const double *dy = channels(gated_, row, t, head), *dy_lost = channels(gated_lost_, row, t, head),
                   *C = vectors(in_.C, row, t, group);
      double C_magnitudes = 0;
      for (std::int64_t n = 0; n < N_; ++n) {
        B_magnitudes[size(t)] += std::fabs(vectors(in_.B, row, t, group)[n]);
        C_magnitudes += std::fabs(C[n]);
      }
      std::fill(squares.begin(), squares.end(), 0);
      std::fill(losses.begin(), losses.end(), 0);
      double exponent = 0;
      for (std::int64_t j = t; j >= std::max<std::int64_t>(s.begins[size(t)], 0) && exponent > kNothingLeft; --j) {
        const double L = std::exp(exponent), delta = s.delta[size(j)], g = G.sum[G.at(t, j)];
        const double g1 = G.magnitudes[G.at(t, j)], g2 = std::max(g * g, G.squares[G.at(t, j)]);
        const double G_lost = stored_lost_ * (C_magnitudes + B_magnitudes[size(j)]) + static_cast<double>(N_) * kTiny;
        const double weight = g1 * L, weight_lost = G_lost * L + (1 + g1) * kTiny + operand_lost_;
        const double *x = channels(in_.x, row, j, head), *B = vectors(in_.B, row, j, group);
        Sum W;
        double W_lost = 0;
        for (std::int64_t p = 0; p < P_; ++p) {
          W.add(dy[p] * x[p]);
          W_lost += lost_of(dy[p], dy_lost[p], x[p], stored_lost_);
          out.x[size(j * P_ + p)] += L * L * g2 * dy[p] * dy[p];
          out.x_lost[size(j * P_ + p)] += lost_of(weight, weight_lost, dy[p], dy_lost[p]);
        }
        const double M = W.total * L * delta, M1 = W.magnitudes * L * delta;
        const double M_lost = W_lost * L * delta + (1 + delta) * (1 + W.magnitudes) * kTiny;
        for (std::int64_t n = 0; n < N_; ++n) {
          out.B[size(j * N_ + n)] += M * M * C[n] * C[n];
          out.C[size(t * N_ + n)] += M * M * B[n] * B[n];
          out.B_lost[size(j * N_ + n)] += lost_of(M1, M_lost + operand_lost_, C[n], stored_lost_);
          out.C_lost[size(t * N_ + n)] += lost_of(M1, M_lost + operand_lost_, B[n], stored_lost_);
        }
        const double pair = L * L * g2 * std::max(W.total * W.total, W.squares);
        out.direct[size(j)] += pair;
        out.direct_lost[size(j)] += lost_of(W.magnitudes, W_lost, weight, weight_lost) + g1 * kTiny;
        squares[size(j)] = pair * delta * delta;
        losses[size(j)] = lost_of(M1, M_lost, g1, G_lost);
        d_G[G.at(t, j)] += M;
        exponent += s.exponent[size(j)];
      }
      double past = 0, past_lost = 0;
      for (std::int64_t m = 0; m <= t; ++m) {
        out.across[size(m)] += past, past += squares[size(m)];
        out.across_lost[size(m)] += past_lost, past_lost += losses[size(m)];
      }
    }
    return out;
  }

  void one_head(std::int64_t row, std::int64_t head, const Products& G, Values& d_G, std::vector<Parts>& d_B,
                std::vector<Parts>& d_C) {
    const std::int64_t group = in_.group_of(head);
    const std::size_t count = size(P_ * N_), unit = size(row * H_ + head);
    const double operand_lost = operand_lost_ + kTiny;
    const Head s = head_at(in_, row, head, contract_);
    const Pairs pairs = pairs_of(row, head, s, G, d_G);
    double window = 0;
    for (const double c : s.window) window = std::max(window, c);

    std::vector<Field> h(size(T_) + 1, Field(count, operand_lost_));  // before each token
    if (!in_.initial_state.empty()) h[0].start(&in_.initial_state[unit * count]);
    for (std::int64_t t = 0; t < T_; ++t) {
      Field& after = h[size(t) + 1] = h[size(t)];
      after.decay(s, t);
      const double *x = channels(in_.x, row, t, head), *B = vectors(in_.B, row, t, group);
      for (std::size_t i = 0; i < count; ++i) {
        const double x1 = std::fabs(x[i / size(N_)]), B1 = std::fabs(B[i % size(N_)]), delta = s.delta[size(t)];
        after.add(i, delta * x[i / size(N_)] * B[i % size(N_)], x1 * B1 * s.delta_error[size(t)],
                  (1 + delta) * (1 + x1 * B1) * kTiny + (x1 + B1) * (delta * stored_lost_ + operand_lost));
      }
    }
    Field q(count, operand_lost_);
    if (!g_.d_final_state.empty()) q.start(&g_.d_final_state[unit * count]);
    for (std::int64_t t = T_ - 1; t >= 0; --t) {
      if (t + 1 < T_) q.decay(s, t + 1);
      const double *x = channels(in_.x, row, t, head), *B = vectors(in_.B, row, t, group),
                   *C = vectors(in_.C, row, t, group), *dy = channels(gated_, row, t, head),
                   *dy_lost = channels(gated_lost_, row, t, head);
      const double delta = s.delta[size(t)], delta_error = s.delta_error[size(t)], a = s.decay[size(t)];
      const Field &before = h[size(t)], &after = h[size(t) + 1];
      Parts in, e;
      std::vector<OfHead> B_of_head(size(N_)), C_of_head(size(N_));
      for (std::int64_t p = 0; p < P_; ++p) {
        Parts d_x;
        for (std::int64_t n = 0; n < N_; ++n) {
          const std::size_t i = size(p * N_ + n), of_group = size(t * N_ + n);
          const double dy1 = std::fabs(dy[p]), C1 = std::fabs(C[n]), x1 = std::fabs(x[p]), B1 = std::fabs(B[n]);
          q.add(i, dy[p] * C[n], 0,
                lost_of(dy[p], dy_lost[p], C[n], stored_lost_) + (dy1 + C1) * operand_lost + dy1 * C1 * kTiny);
          weigh(d_C[of_group], after, i, dy[p], dy_lost[p]);
          weigh(d_B[of_group], q, i, delta * x[p], delta * stored_lost_ + operand_lost + x1 * kTiny);
          d_B[of_group].functions += x1 * std::fabs(q.value[i]) * delta_error;
          d_B[of_group].floor += delta * kTiny;
          C_of_head[size(n)].add(dy[p], after, i), B_of_head[size(n)].add(delta * x[p], q, i);
          weigh(d_x, q, i, B[n], stored_lost_);
          weigh(in, q, i, x[p] * B[n], lost_of(x[p], stored_lost_, B[n], stored_lost_));
          in.floor += (x1 + B1) * kTiny;
          const double product = a * q.value[i] * before.value[i];
          e.value += product, e.carried2 += product * product;
          e.products2 += a * a * q.squares[i] * before.squares[i];
          e.magnitudes += a * q.magnitudes[i] * before.magnitudes[i];
          e.floor += lost_of(q.magnitudes[i], q.floor[i], before.magnitudes[i], before.floor[i]);
          e.drift += a * (std::fabs(q.value[i]) * before.drift[i] + std::fabs(before.value[i]) * q.drift[i]);
          e.walk2 +=
              a * a * (q.value[i] * q.value[i] * before.walk2[i] + before.value[i] * before.value[i] * q.walk2[i]);
        }
        d_x.window = window;
        d_x.floor += pairs.x_lost[size(t * P_ + p)];
        finish(d_x, pairs.x[size(t * P_ + p)], static_cast<double>(N_));
        d_x = scaled(d_x, delta, delta_error);
        const std::size_t to = (token_of(row, t) * size(H_) + size(head)) * size(P_) + size(p);
        if (!in_.D.empty()) {
          const double D = in_.D[size(in_.D_per_channel ? head * P_ + p : head)], skip = D * dy[p];
          d_x.value += skip, d_x.tokens2 += skip * skip, d_x.magnitudes += std::fabs(skip);
          d_x.functions += std::fabs(skip) * gate_error_;
          d_x.floor += std::fabs(D) * dy_lost[p];
        }
        d_x.floor += kTiny;
        put(out_.x, to, in_.dtype, d_x, 0);
      }
      for (std::int64_t n = 0; n < N_; ++n) {
        const std::size_t i = size(t * N_ + n);
        d_B[i].walk2 += B_of_head[size(n)].trees2(window, pairs.B[i]), d_B[i].floor += pairs.B_lost[i];
        d_C[i].walk2 += C_of_head[size(n)].trees2(window, pairs.C[i]), d_C[i].floor += pairs.C_lost[i];
      }
      // e_t's own factor, and its square: sums of increments with a q that has cancelled, or not.
      e.drift += s.drift[size(t)] * std::fabs(e.value);
      e.walk2 += 2 * std::pow(s.window[size(t)] * e.value, 2);
      e.carried2 += e.value * e.value;
      in.window = e.window = window;
      in.floor += pairs.direct_lost[size(t)], e.floor += pairs.across_lost[size(t)];
      finish(in, pairs.direct[size(t)], static_cast<double>(N_ * P_));
      finish(e, pairs.across[size(t)], static_cast<double>(N_ * P_));
      steps(row, head, t, in, e, delta, delta_error);
    }
    if (T_ > 0) q.decay(s, 0);
    for (std::size_t i = 0; i < out_.initial_state.limit.size() / size(in_.batch * H_); ++i) {
      Parts p;
      weigh(p, q, i, 1, 0);
      p.window = window;
      finish(p, 0, 1);
      const bool bf16 = in_.dtype == DType::bfloat16 || g_.initial_state_dtype == DType::bfloat16;
      put(out_.initial_state, unit * count + i, bf16 ? DType::bfloat16 : DType::float32,
          T_ == 0 ? Parts{.value = p.value} : p, 0);
    }
  }

  void steps(std::int64_t row, std::int64_t head, std::int64_t t, const Parts& in, const Parts& e, double delta,
             double delta_error) {
    const std::size_t i = token_of(row, t) * size(H_) + size(head);
    const double bias = in_.dt_bias.empty() ? 0 : in_.dt_bias[size(head)], v = in_.dt[i] + bias;
    const Value raw = step_size(in_.dt[i], bias, in_.dt_softplus, kLimit, contract_);
    const double sigmoid = v > 20 ? 1 : 1 / (1 + std::exp(-v));
    const bool passes = raw.value >= in_.dt_min && raw.value <= in_.dt_max;
    const double full = in_.dt_softplus ? sigmoid : 1, slope = passes ? full : 0;
    const double slope_error = in_.dt_softplus ? full * (kSlopeRoundings + std::fabs(v)) * kUnit + kTiny : 0;
    const Parts carried = scaled(e, in_.A[size(head)] * slope, passes ? std::fabs(in_.A[size(head)]) * slope_error : 0),
                direct = scaled(in, slope, passes ? slope_error : 0);
    Parts sum = direct;
    add(sum, carried, false);
    sum.floor += kTiny;
    // Where the clamp and the error of Delta do not say whether the gradient passes, both are right.
    const bool unsure = raw.error > 0 && (std::fabs(raw.value - in_.dt_min) <= raw.error ||
                                          std::fabs(raw.value - in_.dt_max) <= raw.error);
    const double certain = unsure ? full * std::fabs(in_.A[size(head)] * e.value + in.value) : 0;
    put(out_.dt, i, g_.dt_dtype, sum, certain);
    Parts of_bias = direct;
    of_bias.functions += certain;
    add(d_bias_[size(head)], of_bias, false);
    add(d_bias_[size(head)], carried, true);
    add(d_A_[size(head)], scaled(e, delta, delta_error), true);
    for (Parts* p : {&d_bias_[size(head)], &d_A_[size(head)]})
      p->steps = std::max(p->steps, e.steps + accumulator_updates(static_cast<double>(in_.batch * T_), contract_));
  }

  // dD = sum of dy silu(z) x, before any rounding.
  void skip() {
    std::vector<Sum> sums(in_.D.size());
    Values losses(in_.D.size(), kTiny);
    const std::int64_t per_head = in_.D_per_channel ? 1 : P_;
    for (std::size_t i = 0; i < in_.x.size(); ++i) {
      const std::size_t to = i % size(H_ * P_) / size(per_head);
      sums[to].add(gated_[i] * in_.x[i]);
      losses[to] += lost_of(gated_[i], gated_lost_[i], in_.x[i], stored_lost_);
    }
    const double terms = static_cast<double>(in_.batch * T_ * per_head);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const auto error = [&](const Budget& b) {
        return order_error(sums[i], accumulator_updates(terms, contract_), b.per_element, contract_) +
               b.rounding * term_error(sums[i], 2, b.per_element) + sums[i].magnitudes * gate_error_ +
               operand_of_float32() * b.per_element * std::sqrt(sums[i].squares) + losses[i];
      };
      out_.D.limit[i] = with_rounding(true, DType::float32, sums[i].total, error(kLimit));
      out_.D.freedom[i] = error(kFreedom);
    }
  }
  double operand_of_float32() const { return in_.dtype == DType::float32 ? operand_error(contract_) : 0; }

  // dz = dy u silu'(z), u being the candidate's own.
  void gate() {
    ScanOperands ungated = in_;
    ungated.z.clear();
    const Tolerance u = scan_tolerance(ungated, contract_, false).y;
    for (std::size_t i = 0; i < in_.z.size(); ++i) {
      const auto error = [&](double of_u, const Budget& b) {
        const Gate g = gate_at(in_.z[i], b, contract_);
        const double product = std::fabs(g_.d_y[i] * g_.ungated_y[i]);
        return std::fabs(g_.d_y[i]) * of_u * (std::fabs(g.derivative) + g.derivative_error) +
               product * (g.derivative_error + 2 * b.rounding * kUnit * std::fabs(g.derivative)) +
               (1 + std::fabs(g_.d_y[i])) * (1 + std::fabs(g_.ungated_y[i])) * (1 + std::fabs(g.derivative)) * kTiny;
      };
      const double value = g_.d_y[i] * g_.ungated_y[i] * gate_at(in_.z[i], kLimit, contract_).derivative;
      out_.z.limit[i] = with_rounding(true, in_.dtype, value, error(u.limit[i], kLimit));
      out_.z.freedom[i] = error(u.freedom[i], kFreedom);
    }
  }

  const ScanOperands& in_;
  const ScanGradientOperands& g_;
  const assay_contract& contract_;
  Errors errors_;
  std::int64_t T_, H_, P_, N_;
  std::vector<Parts> d_A_, d_bias_;    // by head
  Values gated_, gated_lost_;          // dy silu(z); what underflows of it, and of it as an operand
  double gate_error_;                  // the largest relative error of silu(z)
  double stored_lost_, operand_lost_;  // of an operand that is stored, that is computed
  ScanGradientTolerance out_;
};

}  // namespace

ScanGradientTolerance scan_gradient_tolerance(const ScanOperands& in, const ScanGradientOperands& gradients,
                                              const assay_contract& contract) {
  return Gradients(in, gradients, contract).run();
}

}  // namespace assay::harness
