#include "reference/term_sums.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/embedding.h"
#include "reference/gated_rms_norm.h"
#include "reference/linear.h"
#include "reference/rms_norm.h"
#include "reference/testing/scan_problem.h"

namespace assay::reference {
namespace {

using testing::Random;

// Terms added up one by one.
struct Brute {
  double absolute = 0, squares = 0;
  void add(double term) { absolute += std::fabs(term), squares += term * term; }
};

TEST(TermSums, Linear) {
  Random random(1);
  const auto x = random.tensor<double>({2, 3, 5}), weight = random.tensor<double>({4, 5}), bias = random.tensor<double>({4}),
             d_y = random.tensor<double>({2, 3, 4});
  const auto y = linear_term_sums(x, weight, &bias);
  const auto dx = linear_input_gradient_term_sums(weight, d_y), dw = linear_weight_gradient_term_sums(x, d_y), db = linear_bias_gradient_term_sums(d_y);
  Brute at_y, at_dx, at_dw, at_db;
  for (Index k = 0; k < 5; ++k) at_y.add(x(1, 2, k) * weight(3, k));
  at_y.add(bias[3]);
  for (Index k = 0; k < 4; ++k) at_dx.add(d_y(1, 2, k) * weight(k, 4));
  for (Index t = 0; t < 6; ++t) at_dw.add(d_y[t * 4 + 2] * x[t * 5 + 1]), at_db.add(d_y[t * 4 + 2]);
  EXPECT_NEAR(y.absolute(1, 2, 3), at_y.absolute, 1e-14);
  EXPECT_NEAR(y.squares(1, 2, 3), at_y.squares, 1e-14);
  EXPECT_NEAR(dx.absolute(1, 2, 4), at_dx.absolute, 1e-14);
  EXPECT_NEAR(dx.squares(1, 2, 4), at_dx.squares, 1e-14);
  EXPECT_NEAR(dw.absolute(2, 1), at_dw.absolute, 1e-14);
  EXPECT_NEAR(dw.squares(2, 1), at_dw.squares, 1e-14);
  const Tensor<double> no_x({0, 5}), no_d_y({0, 4});
  EXPECT_EQ(linear_weight_gradient_term_sums(no_x, no_d_y).absolute.shape(), Shape({4, 5}));
  EXPECT_EQ(linear_bias_gradient_term_sums(no_d_y).squares[3], 0);
  EXPECT_EQ(linear_term_sums(no_x, weight, &bias).absolute.shape(), Shape({0, 4}));
  EXPECT_EQ(linear_input_gradient_term_sums(weight, no_d_y).absolute.shape(), Shape({0, 5}));
  EXPECT_NEAR(db.absolute[2], at_db.absolute, 1e-14);
  EXPECT_NEAR(db.squares[2], at_db.squares, 1e-14);
}

TEST(TermSums, Convolution) {
  Random random(2);
  const auto x = random.tensor<double>({1, 6, 2}), weight = random.tensor<double>({2, 4}), bias = random.tensor<double>({2}),
             state = random.tensor<double>({1, 2, 3});
  const auto sums = causal_conv1d_term_sums<double>({.x = x, .weight = weight, .bias = &bias, .initial_state = &state});
  Brute want;  // token 1 of channel 1 sees the last two columns of the state
  want.add(bias[1]);
  want.add(weight(1, 0) * state(0, 1, 1));
  want.add(weight(1, 1) * state(0, 1, 2));
  want.add(weight(1, 2) * x(0, 0, 1));
  want.add(weight(1, 3) * x(0, 1, 1));
  EXPECT_NEAR(sums.absolute(0, 1, 1), want.absolute, 1e-14);
  EXPECT_NEAR(sums.squares(0, 1, 1), want.squares, 1e-14);
}

TEST(TermSums, ConvolutionBackward) {
  Random random(4);
  const auto x = random.tensor<double>({2, 6, 2}), weight = random.tensor<double>({2, 3}), bias = random.tensor<double>({2}),
             state = random.tensor<double>({2, 2, 2}), d_y = random.tensor<double>({2, 6, 2}), d_state = random.tensor<double>({2, 2, 2});
  for (const bool silu : {true, false}) {
    const CausalConv1dInputs<double> in{.x = x, .weight = weight, .bias = &bias, .initial_state = &state, .silu = silu};
    const auto sums = causal_conv1d_backward_term_sums(in, d_y, &d_state);
    const Index c = 1;
    const auto source = [&](Index b, Index t) { return t < 0 ? state(b, c, t + 2) : x(b, t, c); };
    const auto d_p = [&](Index b, Index t) {
      double p = bias[c];
      for (Index j = 0; j < 3; ++j) p += weight(c, j) * source(b, t - 2 + j);
      return d_y(b, t, c) * (silu ? silu_derivative(p) : 1);
    };
    Brute d_weight, d_bias;
    for (Index b = 0; b < 2; ++b) {
      for (Index t = 0; t < 6; ++t) d_weight.add(d_p(b, t) * source(b, t - 2)), d_bias.add(d_p(b, t));
      for (Index at = -2; at < 6; ++at) {
        Brute d_x;
        for (Index j = 0; j < 3; ++j)
          if (const Index t = at + 2 - j; t >= 0 && t < 6) d_x.add(weight(c, j) * d_p(b, t));
        if (at >= 4) d_x.add(d_state(b, c, at - 4));
        EXPECT_NEAR(at < 0 ? sums.d_initial_state.absolute(b, c, at + 2) : sums.d_x.absolute(b, at, c), d_x.absolute, 1e-14) << at;
        EXPECT_NEAR(at < 0 ? sums.d_initial_state.squares(b, c, at + 2) : sums.d_x.squares(b, at, c), d_x.squares, 1e-14) << at;
      }
    }
    EXPECT_NEAR(sums.d_weight.absolute(c, 0), d_weight.absolute, 1e-14);
    EXPECT_NEAR(sums.d_weight.squares(c, 0), d_weight.squares, 1e-14);
    EXPECT_NEAR(sums.d_bias.absolute[c], d_bias.absolute, 1e-14);
    EXPECT_NEAR(sums.d_bias.squares[c], d_bias.squares, 1e-14);
  }
}

TEST(TermSums, Scan) {
  for (const bool dt_softplus : {true, false}) {
    Random random(3);
    testing::ScanProblem<double> p(random, 1, 13, 2, 2, 1, 3);
    p.chunk_size = 4, p.with_z = false, p.dt_softplus = dt_softplus;
    const auto in = p.inputs();
    const auto sums = ssd_scan_term_sums(in);
    const Index t = 11, head = 1, q = 1;
    const auto delta = [&](Index s) {
      const double v = p.dt(0, s, head) + p.dt_bias[head];
      const double d = dt_softplus ? softplus(v) : v;
      return std::max(d, 0.);  // dt_min = 0 clamps a negative step
    };
    Brute y, state;
    double decay = 1;
    std::int32_t document = p.seq_idx[t];
    for (Index s = t; s >= 0 && p.seq_idx[s] == document; --s) {
      for (Index n = 0; n < 3; ++n) y.add(p.C(0, t, 0, n) * decay * delta(s) * p.B(0, s, 0, n) * p.x(0, s, head, q));
      decay *= std::exp(delta(s) * p.A[head]);
      if (s == 0 && document == 0)
        for (Index n = 0; n < 3; ++n) y.add(p.C(0, t, 0, n) * decay * p.initial_state(0, head, q, n));
    }
    y.add(p.D[head] * p.x(0, t, head, q));
    EXPECT_NEAR(sums.y.absolute(0, t, head, q), y.absolute, 1e-13);
    EXPECT_NEAR(sums.y.squares(0, t, head, q), y.squares, 1e-13);
    decay = 1, document = p.seq_idx[12];
    for (Index s = 12; s >= 0 && p.seq_idx[s] == document; --s) {
      state.add(decay * delta(s) * p.B(0, s, 0, 2) * p.x(0, s, head, q));
      decay *= std::exp(delta(s) * p.A[head]);
      if (s == 0 && document == 0) state.add(decay * p.initial_state(0, head, q, 2));
    }
    EXPECT_NEAR(sums.final_state.absolute(0, head, q, 2), state.absolute, 1e-13);
    EXPECT_NEAR(sums.final_state.squares(0, head, q, 2), state.squares, 1e-13);
  }
}

// Every term of every gradient, written out: what goes in at token j (-1: the initial state) comes out at token i (S: the
// final state).
TEST(TermSums, ScanBackward) {
  for (const bool dt_softplus : {true, false})
    for (const bool D_by_channel : {true, false}) {
      Random random(6);
      testing::ScanProblem<double> p(random, 2, 9, 4, 2, 2, 3, D_by_channel);
      p.chunk_size = 4, p.dt_softplus = dt_softplus, p.dt_min = 0.05, p.dt_max = 1;
      for (Index b = 0; b < 2; ++b)
        for (Index t = 0; t < 9; ++t) p.seq_idx[b * 9 + t] = b == 0 ? t >= 6 : 1;  // 1 at once: without the initial state
      const auto sums = ssd_scan_backward_term_sums(p.inputs(), p.d_y, &p.d_final_state);
      const Index S = p.seq_len, head = 2, group = 1;
      Brute d_A, d_D, d_bias;  // over both batch rows
      for (Index b = 0; b < 2; ++b) {
        const auto raw = [&](Index h, Index t) { return p.dt(b, t, h) + p.dt_bias[h]; };
        const auto delta = [&](Index h, Index t) {
          return std::clamp(dt_softplus ? softplus(raw(h, t)) : raw(h, t), p.dt_min, p.dt_max);
        };
        const auto decay = [&](Index h, Index i, Index j) {  // from token j to token i
          double product = 1;
          for (Index t = j + 1; t <= std::min(i, S - 1); ++t)
            product *= p.seq_idx[b * S + t] == (t == 0 ? 0 : p.seq_idx[b * S + t - 1]) ? std::exp(delta(h, t) * p.A[h]) : 0;
          return product;
        };
        const auto D = [&](Index h, Index q) { return D_by_channel ? p.D(h, q) : p.D[h]; };
        const auto in = [&](Index h, Index q, Index n, Index j) {
          return j < 0 ? p.initial_state(b, h, q, n) : delta(h, j) * p.x(b, j, h, q) * p.B(b, j, h / 2, n);
        };
        const auto dy = [&](Index h, Index q, Index t) { return p.d_y(b, t, h, q) * silu(p.z(b, t, h, q)); };
        const auto out = [&](Index h, Index q, Index n, Index i) {
          return i == S ? p.d_final_state(b, h, q, n) : dy(h, q, i) * p.C(b, i, h / 2, n);
        };
        const auto expect = [&](const TermSums<double>& got, const Brute& want, const char* name, auto... index) {
          EXPECT_NEAR(got.absolute(index...), want.absolute, 1e-13) << name;
          EXPECT_NEAR(got.squares(index...), want.squares, 1e-13) << name;
        };
        for (Index t = 0; t < S; ++t) {
          Brute d_B, d_C, d_dt;
          const double v = raw(head, t), s = dt_softplus ? softplus(v) : v;
          const double slope = s < p.dt_min || s > p.dt_max ? 0 : dt_softplus ? softplus_derivative(v) : 1;
          for (Index q = 0; q < 2; ++q) {
            Brute d_x, d_z;
            d_x.add(D(head, q) * dy(head, q, t));
            const double gate = p.d_y(b, t, head, q) * silu_derivative(p.z(b, t, head, q));
            d_z.add(gate * D(head, q) * p.x(b, t, head, q));
            d_D.add(dy(head, q, t) * p.x(b, t, head, q) * (!D_by_channel || q == 1));
            for (Index n = 0; n < 3; ++n) {
              for (Index i = t; i <= S; ++i) {
                const double back = out(head, q, n, i) * decay(head, i, t);
                d_x.add(back * delta(head, t) * p.B(b, t, group, n));
                d_dt.add(slope * back * p.x(b, t, head, q) * p.B(b, t, group, n));
                for (Index j = -1; j < t; ++j) {
                  const double through = out(head, q, n, i) * decay(head, i, j) * in(head, q, n, j);
                  d_dt.add(slope * p.A[head] * through);
                  d_A.add(delta(head, t) * through);
                }
              }
              for (Index j = -1; j <= t; ++j) d_z.add(gate * p.C(b, t, group, n) * decay(head, t, j) * in(head, q, n, j));
            }
            expect(sums.d_x, d_x, "d_x", b, t, head, q);
            expect(sums.d_z, d_z, "d_z", b, t, head, q);
            for (Index h : {2, 3}) {  // of the group, state 1
              for (Index i = t; i <= S; ++i) d_B.add(out(h, q, 1, i) * decay(h, i, t) * delta(h, t) * p.x(b, t, h, q));
              for (Index j = -1; j <= t; ++j) d_C.add(dy(h, q, t) * decay(h, t, j) * in(h, q, 1, j));
            }
          }
          expect(sums.d_B, d_B, "d_B", b, t, group, Index{1});
          expect(sums.d_C, d_C, "d_C", b, t, group, Index{1});
          expect(sums.d_dt, d_dt, "d_dt", b, t, head);
          d_bias.absolute += d_dt.absolute, d_bias.squares += d_dt.squares;
        }
        Brute d_state;
        for (Index i = 0; i <= S; ++i) d_state.add(out(head, 1, 2, i) * decay(head, i, -1));
        expect(sums.d_initial_state, d_state, "d_initial_state", b, head, Index{1}, Index{2});
      }
      EXPECT_NEAR(sums.d_A.absolute[head], d_A.absolute, 1e-12);
      EXPECT_NEAR(sums.d_A.squares[head], d_A.squares, 1e-12);
      EXPECT_NEAR(sums.d_dt_bias.absolute[head], d_bias.absolute, 1e-12);
      EXPECT_NEAR(sums.d_dt_bias.squares[head], d_bias.squares, 1e-12);
      EXPECT_NEAR(sums.d_D.absolute[D_by_channel ? head * 2 + 1 : head], d_D.absolute, 1e-13);
      EXPECT_NEAR(sums.d_D.squares[D_by_channel ? head * 2 + 1 : head], d_D.squares, 1e-13);
    }
}

// A sum is never larger than its absolute terms, and equal where every term is positive.
TEST(TermSums, ScanBackwardBoundsTheGradients) {
  Random random(7);
  testing::ScanProblem<double> p(random, 1, 21, 2, 3, 1, 4);
  for (const bool positive : {false, true}) {
    if (positive) {
      p.with_z = false;
      for (Tensor<double>* t : {&p.x, &p.B, &p.C, &p.D, &p.initial_state, &p.d_y, &p.d_final_state})
        for (double& v : t->span()) v = std::fabs(v);
    }
    const auto forward = ssd_scan_forward<double>({}, p.inputs());
    const auto d = ssd_scan_backward<double>({}, p.inputs(), forward, p.d_y, &p.d_final_state);
    const auto sums = ssd_scan_backward_term_sums(p.inputs(), p.d_y, &p.d_final_state);
    const auto check = [&](const Tensor<double>& value, const TermSums<double>& terms, bool all_positive) {
      ASSERT_EQ(value.shape(), terms.absolute.shape());
      ASSERT_EQ(value.shape(), terms.squares.shape());
      for (Index i = 0; i < value.size(); ++i) {
        EXPECT_LE(std::fabs(value[i]), terms.absolute[i] * (1 + 1e-13));
        EXPECT_LE(terms.squares[i], terms.absolute[i] * terms.absolute[i] * (1 + 1e-13));
        if (positive && all_positive) {
          EXPECT_NEAR(value[i], terms.absolute[i], 1e-12 * terms.absolute[i]);
        }
      }
    };
    check(d.d_x, sums.d_x, true), check(d.d_B, sums.d_B, true), check(d.d_C, sums.d_C, true), check(d.d_D, sums.d_D, true);
    check(d.d_A, sums.d_A, true), check(d.d_initial_state, sums.d_initial_state, true);
    check(d.d_dt, sums.d_dt, false), check(d.d_dt_bias, sums.d_dt_bias, false), check(d.d_z, sums.d_z, false);  // A is negative
  }
}

// Every product of the gradient's formula by itself; their sum is the gradient.
TEST(TermSums, NormBackward) {
  constexpr Index kRows = 3, kWidth = 12, kGroup = 4;
  Random random(8);
  const auto x = random.tensor<double>({kRows, kWidth}), z = random.tensor<double>({kRows, kWidth}, -3, 3),
             weight = random.tensor<double>({kWidth}), d_y = random.tensor<double>({kRows, kWidth}),
             stream = random.tensor<double>({kRows, kWidth});
  for (const int variant : {0, 1, 2}) {  // gated groups, groups alone, one group and a residual stream
    const Tensor<double>* gate = variant == 0 ? &z : nullptr;
    const Index group = variant == 2 ? kWidth : kGroup;
    NormBackwardTermSums<double> sums;
    GatedRmsNormBackward<double> d;
    Tensor<double> rstd;
    if (variant == 2) {
      rstd = rms_norm_forward<double>({}, x, weight, nullptr, 1e-3).rstd;
      auto norm = rms_norm_backward<double>({}, x, weight, rstd, d_y, &stream);
      d.d_hidden_states = norm.d_hidden_states, d.d_weight = norm.d_weight;
      sums = rms_norm_backward_term_sums(x, weight, rstd, d_y, &stream);
    } else {
      rstd = gated_rms_norm_forward<double>({}, x, gate, weight, group, 1e-3).rstd;
      d = gated_rms_norm_backward<double>({}, x, gate, weight, rstd, d_y, group);
      sums = gated_rms_norm_backward_term_sums(x, gate, weight, rstd, d_y, group);
    }
    EXPECT_EQ(sums.d_gate.absolute.size(), gate ? x.size() : 0);
    const auto v = [&](Index row, Index j) { return x(row, j) * (gate ? silu(z(row, j)) : 1); };
    for (Index j = 0; j < kWidth; ++j) {
      Brute d_weight;
      for (Index row = 0; row < kRows; ++row) {
        const double r = rstd[j / group * kRows + row];
        d_weight.add(d_y(row, j) * v(row, j) * r);
        Brute d_x, d_z;
        double total = 0;
        const auto add = [&](double d_v) {
          total += d_v * (gate ? silu(z(row, j)) : 1);
          d_x.add(d_v * (gate ? silu(z(row, j)) : 1));
          if (gate) d_z.add(d_v * x(row, j) * silu_derivative(z(row, j)));
        };
        add(r * weight[j] * d_y(row, j));
        const Index first = j / group * group;
        for (Index k = first; k < first + group; ++k)
          add(-r * (v(row, j) * r) * weight[k] * d_y(row, k) * (v(row, k) * r) / static_cast<double>(group));
        if (variant == 2) d_x.add(stream(row, j)), total += stream(row, j);
        EXPECT_NEAR(total, d.d_hidden_states(row, j), 1e-13);
        EXPECT_NEAR(sums.d_hidden_states.absolute(row, j), d_x.absolute, 1e-13);
        EXPECT_NEAR(sums.d_hidden_states.squares(row, j), d_x.squares, 1e-13);
        if (!gate) continue;
        EXPECT_NEAR(sums.d_gate.absolute(row, j), d_z.absolute, 1e-13);
        EXPECT_NEAR(sums.d_gate.squares(row, j), d_z.squares, 1e-13);
      }
      EXPECT_NEAR(sums.d_weight.absolute[j], d_weight.absolute, 1e-13);
      EXPECT_NEAR(sums.d_weight.squares[j], d_weight.squares, 1e-13);
    }
  }
}

TEST(TermSums, StateUpdate) {
  constexpr Index kHeads = 4, kDim = 2, kGroups = 2, kStates = 3;
  for (const bool dt_softplus : {true, false})
    for (const bool D_by_channel : {true, false}) {
      Random random(9);
      const auto x = random.tensor<double>({2, kHeads, kDim}), dt = random.tensor<double>({2, kHeads}), bias = random.tensor<double>({kHeads}),
                 A = random.tensor<double>({kHeads}, -2, -0.1), B = random.tensor<double>({2, kGroups, kStates}),
                 C = random.tensor<double>({2, kGroups, kStates}),
                 D = random.tensor<double>(D_by_channel ? Shape{kHeads, kDim} : Shape{kHeads}),
                 state = random.tensor<double>({3, kHeads, kDim, kStates});
      const std::int32_t rows[] = {2, -1};
      const SsmStateUpdateInputs<double> in{.x = x, .dt = dt, .A = A, .B = B, .C = C, .D = &D, .dt_bias = &bias,
                                            .dt_softplus = dt_softplus, .state_rows = rows};
      const auto sums = ssm_state_update_term_sums(in, state);
      for (Index h = 0; h < kHeads; ++h) {
        const double v = dt(0, h) + bias[h], delta = dt_softplus ? softplus(v) : v, decay = std::exp(delta * A[h]);
        for (Index p = 0; p < kDim; ++p) {
          Brute y;
          for (Index n = 0; n < kStates; ++n) {
            Brute next;
            for (const double term : {state(2, h, p, n) * decay, B(0, h / 2, n) * delta * x(0, h, p)})
              next.add(term), y.add(term * C(0, h / 2, n));
            EXPECT_NEAR(sums.state.absolute(2, h, p, n), next.absolute, 1e-14);
            EXPECT_NEAR(sums.state.squares(2, h, p, n), next.squares, 1e-14);
            EXPECT_EQ(sums.state.absolute(0, h, p, n), std::fabs(state(0, h, p, n)));  // nobody's row
          }
          y.add((D_by_channel ? D(h, p) : D[h]) * x(0, h, p));
          EXPECT_NEAR(sums.y.absolute(0, h, p), y.absolute, 1e-14);
          EXPECT_NEAR(sums.y.squares(0, h, p), y.squares, 1e-14);
          EXPECT_EQ(sums.y.absolute(1, h, p), 0);  // padding
        }
      }
    }
}

TEST(TermSums, EmbeddingGradient) {
  Random random(10);
  const std::int64_t ids[] = {1, 3, 1};
  const auto d_y = random.tensor<double>({3, 2});
  const auto sums = embedding_gradient_term_sums<double>(ids, d_y, 4);
  EXPECT_EQ(sums.absolute(1, 1), std::fabs(d_y(0, 1)) + std::fabs(d_y(2, 1)));
  EXPECT_EQ(sums.squares(1, 1), d_y(0, 1) * d_y(0, 1) + d_y(2, 1) * d_y(2, 1));
  EXPECT_EQ(sums.absolute(3, 0), std::fabs(d_y(1, 0)));
  EXPECT_EQ(sums.absolute(0, 0), 0);
}

TEST(TermSums, CrossEntropy) {
  Random random(11);
  const auto logits = random.tensor<double>({3, 4}, -2, 2);
  const Tensor<Index> targets({3}, {2, kIgnoredTarget, 0});
  const auto forward = cross_entropy_forward<double>({}, logits, targets);
  const double scale = -0.75;
  const auto loss = cross_entropy_term_sums(logits, targets, forward);
  const auto sums = cross_entropy_gradient_term_sums(logits, targets, forward, scale);
  Brute want;
  for (const Index t : {0, 2}) {
    double total = 0;
    for (Index v = 0; v < 4; ++v) total += std::exp(logits(t, v));
    want.add(std::log(total)), want.add(-logits(t, targets[t]));
    for (Index v = 0; v < 4; ++v) {
      Brute d;
      d.add(scale * std::exp(logits(t, v)) / total);
      if (v == targets[t]) d.add(-scale);
      EXPECT_NEAR(sums.absolute(t, v), d.absolute, 1e-14);
      EXPECT_NEAR(sums.squares(t, v), d.squares, 1e-14);
      EXPECT_EQ(sums.absolute(1, v), 0);
    }
  }
  EXPECT_NEAR(loss.absolute[0], want.absolute, 1e-14);
  EXPECT_NEAR(loss.squares[0], want.squares, 1e-14);
}

}  // namespace
}  // namespace assay::reference
