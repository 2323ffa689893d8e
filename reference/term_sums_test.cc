#include "reference/term_sums.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/linear.h"
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
  const auto dx = linear_input_gradient_term_sums(weight, d_y), dw = linear_weight_gradient_term_sums(x, d_y);
  Brute at_y, at_dx, at_dw;
  for (Index k = 0; k < 5; ++k) at_y.add(x(1, 2, k) * weight(3, k));
  at_y.add(bias[3]);
  for (Index k = 0; k < 4; ++k) at_dx.add(d_y(1, 2, k) * weight(k, 4));
  for (Index t = 0; t < 6; ++t) at_dw.add(d_y[t * 4 + 2] * x[t * 5 + 1]);
  EXPECT_NEAR(y.absolute(1, 2, 3), at_y.absolute, 1e-14);
  EXPECT_NEAR(y.squares(1, 2, 3), at_y.squares, 1e-14);
  EXPECT_NEAR(dx.absolute(1, 2, 4), at_dx.absolute, 1e-14);
  EXPECT_NEAR(dx.squares(1, 2, 4), at_dx.squares, 1e-14);
  EXPECT_NEAR(dw.absolute(2, 1), at_dw.absolute, 1e-14);
  EXPECT_NEAR(dw.squares(2, 1), at_dw.squares, 1e-14);
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

}  // namespace
}  // namespace assay::reference
