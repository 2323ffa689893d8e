#include "reference/ssd_scan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "reference/parallel.h"
#include "reference/ssd_scan_recurrence.h"
#include "reference/testing/compare.h"
#include "reference/testing/gradient_check.h"
#include "reference/testing/layer_check.h"
#include "reference/testing/scan_problem.h"

namespace assay::reference {
namespace {

using testing::Random;
using testing::relative_l2;
using testing::ScanProblem;
const Numerics<double> kExact;

TEST(SsdScan, ByHand) {
  // One head, one channel, one state; softplus off, Delta = 1, A = -ln 2: h_t = h_{t-1} / 2 + x_t B_t, y_t = h_t C_t + 10 x_t.
  const double A = -std::log(2.);
  const Tensor<double> x({1, 3, 1, 1}, {1, 2, 4}), dt({1, 3, 1}, 1.), a({1}, A), B({1, 3, 1, 1}, {1, 3, 1}), C({1, 3, 1, 1}, {2, 1, 5});
  const Tensor<double> D({1}, 10.), start({1, 1, 1, 1}, 8.);
  SsdScanInputs<double> in{.x = x, .dt = dt, .A = a, .B = B, .C = C, .D = &D, .chunk_size = 2, .dt_softplus = false};
  const auto fresh = ssd_scan_forward(kExact, in);  // h = 1, 6.5, 7.25
  EXPECT_NEAR(fresh.y[0], 12, 1e-14);
  EXPECT_NEAR(fresh.y[1], 26.5, 1e-14);
  EXPECT_NEAR(fresh.y[2], 76.25, 1e-14);
  EXPECT_NEAR(fresh.final_state[0], 7.25, 1e-14);
  in.initial_state = &start;  // adds 4, 2, 1 to h
  EXPECT_NEAR(ssd_scan_forward(kExact, in).y[0], 20, 1e-14);
  EXPECT_NEAR(ssd_scan_forward(kExact, in).final_state[0], 8.25, 1e-14);
  // Document 0 continues the initial state; at t = 2 document 1 begins: h_2 = 4 alone.
  const std::vector<std::int32_t> documents = {0, 0, 1}, later = {1, 1, 2};
  in.seq_idx = documents;
  EXPECT_NEAR(ssd_scan_forward(kExact, in).y[0], 20, 1e-14);
  EXPECT_NEAR(ssd_scan_forward(kExact, in).y[2], 60, 1e-14);
  in.seq_idx = later;  // document 1 at the first token drops the initial state
  EXPECT_NEAR(ssd_scan_forward(kExact, in).y[0], 12, 1e-14);
}

TEST(SsdScan, ClampComesAfterSoftplus) {
  const Tensor<double> x({1, 1, 1, 1}, 1.), a({1}, -1.), B({1, 1, 1, 1}, 1.), bias({1}, 0.5);
  const auto delta = [&](double dt_value) {  // y = Delta for one token
    const Tensor<double> dt({1, 1, 1}, dt_value);
    const SsdScanInputs<double> in{.x = x, .dt = dt, .A = a, .B = B, .C = B, .dt_bias = &bias, .dt_min = 0.1, .dt_max = 2};
    return ssd_scan_forward(kExact, in).y[0];
  };
  EXPECT_NEAR(delta(0), std::log1p(std::exp(0.5)), 1e-15);
  EXPECT_EQ(delta(-9), 0.1);
  EXPECT_EQ(delta(5), 2);
}

class SsdScanProperty : public ::testing::TestWithParam<int> {
 protected:
  ScanProblem<double> problem = testing::random_scan(static_cast<std::uint64_t>(GetParam()));
};
INSTANTIATE_TEST_SUITE_P(Sizes, SsdScanProperty, ::testing::Range(0, 60));

TEST_P(SsdScanProperty, ChunkedIsTheRecurrence) {
  const auto in = problem.inputs();
  const auto chunked = ssd_scan_forward(kExact, in), recurrence = ssd_scan_recurrence_forward(kExact, in);
  EXPECT_LT(relative_l2(chunked.y, recurrence.y), 1e-13);
  EXPECT_LT(relative_l2(chunked.final_state, recurrence.final_state), 1e-13);
  const auto d = ssd_scan_backward(kExact, in, chunked, problem.d_y, &problem.d_final_state);
  const auto want = ssd_scan_recurrence_backward(kExact, in, problem.d_y, &problem.d_final_state);
  EXPECT_LT(relative_l2(d.d_x, want.d_x), 1e-12);
  EXPECT_LT(relative_l2(d.d_dt, want.d_dt), 1e-11);
  EXPECT_LT(relative_l2(d.d_A, want.d_A), 1e-11);
  EXPECT_LT(relative_l2(d.d_B, want.d_B), 1e-12);
  EXPECT_LT(relative_l2(d.d_C, want.d_C), 1e-12);
  EXPECT_LT(relative_l2(d.d_D, want.d_D), 1e-12);
  EXPECT_LT(relative_l2(d.d_z, want.d_z), 1e-12);
  EXPECT_LT(relative_l2(d.d_dt_bias, want.d_dt_bias), 1e-11);
  EXPECT_LT(relative_l2(d.d_initial_state, want.d_initial_state), 1e-12);
}

TEST_P(SsdScanProperty, TheChunkSizeDoesNotMatter) {
  const auto want = ssd_scan_forward(kExact, problem.inputs());
  for (const Index size : {Index{1}, Index{5}, problem.seq_len, Index{200}}) {
    problem.chunk_size = size;
    EXPECT_LT(relative_l2(ssd_scan_forward(kExact, problem.inputs()).y, want.y), 1e-13);
  }
}

TEST_P(SsdScanProperty, TwoPiecesAreTheWhole) {  // scan(x1 x2) = scan(x1), then scan(x2) from its final state
  problem.with_seq_idx = false;
  const auto whole = ssd_scan_forward(kExact, problem.inputs());
  const Index cut = problem.seq_len / 2;
  const auto part = [&](Index begin, Index end) {
    ScanProblem<double> piece = problem;
    piece.seq_len = end - begin;
    const auto slice = [&](Tensor<double>& t) {
      const Tensor<double> all = t;
      Shape shape = all.shape();
      const Index width = all.size() / (shape[0] * shape[1]), length = shape[1];
      shape[1] = end - begin;
      t = Tensor<double>(shape);
      for (Index b = 0; b < shape[0]; ++b)
        std::copy_n(all.data() + (b * length + begin) * width, (end - begin) * width, t.data() + b * (end - begin) * width);
    };
    for (auto* t : {&piece.x, &piece.dt, &piece.B, &piece.C, &piece.z}) slice(*t);
    return piece;
  };
  const ScanProblem<double> first = part(0, cut);
  ScanProblem<double> second = part(cut, problem.seq_len);
  const auto y1 = ssd_scan_forward(kExact, first.inputs());
  second.initial_state = y1.final_state;
  second.with_initial_state = true;
  const auto y2 = ssd_scan_forward(kExact, second.inputs());
  EXPECT_LT(relative_l2(y2.final_state, whole.final_state), 1e-13);
  for (Index b = 0; b < problem.batch; ++b)
    for (Index t = 0; t < problem.seq_len; ++t)
      EXPECT_NEAR(t < cut ? y1.y(b, t, 0, 0) : y2.y(b, t - cut, 0, 0), whole.y(b, t, 0, 0), 1e-12);
}

TEST_P(SsdScanProperty, OnlyNeighboursOfSeqIdxMatter) {
  problem.with_seq_idx = true;
  problem.with_initial_state = false;
  const auto want = ssd_scan_forward(kExact, problem.inputs());
  for (std::int32_t& s : problem.seq_idx) s = 7 + 3 * s;
  EXPECT_TRUE(testing::same_bits(ssd_scan_forward(kExact, problem.inputs()).y, want.y));
}

TEST_P(SsdScanProperty, LinearInXAndInTheState) {
  const auto once = ssd_scan_forward(kExact, problem.inputs());
  for (double& v : problem.x.span()) v *= -3;
  for (double& v : problem.initial_state.span()) v *= -3;
  const auto thrice = ssd_scan_forward(kExact, problem.inputs());
  for (Index i = 0; i < once.y.size(); ++i) EXPECT_NEAR(thrice.y[i], -3 * once.y[i], 1e-12);
}

TEST_P(SsdScanProperty, RowsOfABatchAreIndependentAndThePastDoesNotSeeTheFuture) {
  const auto before = ssd_scan_forward(kExact, problem.inputs());
  const Index b = problem.batch - 1, t0 = problem.seq_len / 2;
  problem.x(b, t0, 0, 0) += 1;
  problem.dt(b, t0, 0) += 0.1;
  problem.B(b, t0, 0, 0) -= 1;
  const auto after = ssd_scan_forward(kExact, problem.inputs());
  const Index row = problem.heads * problem.head_dim, changed = (b * problem.seq_len + t0) * row;
  for (Index i = 0; i < changed; ++i) EXPECT_EQ(after.y[i], before.y[i]);
}

TEST(SsdScan, WithoutDecayItIsACumulativeSumAndWithMuchItForgets) {
  Random random(4);
  ScanProblem<double> p(random, 2, 20, 2, 3, 1, 4);
  p.with_z = p.with_seq_idx = p.with_initial_state = false;
  p.A = Tensor<double>({2}, -std::numeric_limits<double>::min());
  p.dt_min = p.dt_max = 1;  // lo = hi: Delta is constant
  const auto sums = ssd_scan_forward(kExact, p.inputs());
  p.A = Tensor<double>({2}, -1e6);
  const auto forgets = ssd_scan_forward(kExact, p.inputs());
  for (Index t = 0; t < 20; ++t) {
    double sum = 0;
    for (Index s = 0; s <= t; ++s) sum += dot(&p.C(0, t, 0, 0), &p.B(0, s, 0, 0), 4) * p.x(0, s, 1, 2);
    EXPECT_NEAR(sums.y(0, t, 1, 2), sum + p.D[1] * p.x(0, t, 1, 2), 1e-12);
    EXPECT_NEAR(forgets.y(0, t, 1, 2), (dot(&p.C(0, t, 0, 0), &p.B(0, t, 0, 0), 4) + p.D[1]) * p.x(0, t, 1, 2), 1e-12);
  }
  // Where the clamp holds, dt has no gradient.
  p.A = Tensor<double>({2}, -1.);
  p.dt = Tensor<double>(p.dt.shape(), -3.);
  const auto d = ssd_scan_backward(kExact, p.inputs(), ssd_scan_forward(kExact, p.inputs()), p.d_y);
  for (double g : d.d_dt.span()) EXPECT_EQ(g, 0);
}

TEST(SsdScan, TheGradientPassesAClampAtEquality) {
  const Tensor<double> x({1, 1, 1, 1}, 1.), a({1}, -1.), B({1, 1, 1, 1}, 1.), dt({1, 1, 1}, 0.5), d_y({1, 1, 1, 1}, 1.);
  SsdScanInputs<double> in{.x = x, .dt = dt, .A = a, .B = B, .C = B, .dt_softplus = false, .dt_min = 0.5, .dt_max = 2};
  EXPECT_EQ(ssd_scan_backward(kExact, in, ssd_scan_forward(kExact, in), d_y).d_dt[0], 1);
  in.dt_min = std::nextafter(0.5, 1.);
  EXPECT_EQ(ssd_scan_backward(kExact, in, ssd_scan_forward(kExact, in), d_y).d_dt[0], 0);
}

TEST(SsdScan, NoTokens) {
  Random random(1);
  const ScanProblem<double> p(random, 2, 0, 2, 3, 1, 4);
  const auto out = ssd_scan_forward(kExact, p.inputs());
  EXPECT_EQ(out.y.size(), 0);
  EXPECT_TRUE(testing::same_bits(out.final_state, p.initial_state));
  const auto d = ssd_scan_backward(kExact, p.inputs(), out, p.d_y, &p.d_final_state);
  EXPECT_TRUE(testing::same_bits(d.d_initial_state, p.d_final_state));
  for (double g : d.d_A.span()) EXPECT_EQ(g, 0);
}

// Every feature on: two rows, four chunks of which the last is short, documents that begin inside and at the edge of chunks.
TEST(SsdScan, GradientsByFiniteDifferences) {
  for (const bool D_by_channel : {false, true}) {
    Random random(9);
    ScanProblem<double> p(random, 2, 29, 4, 3, 2, 5, D_by_channel);
    p.dt_min = 0.2, p.dt_max = 1.2;
    for (Index b = 0; b < 2; ++b)
      for (Index t = 0; t < 29; ++t) p.seq_idx[b * 29 + t] = (t >= 11) + (t >= 16);
    const auto loss = [&] {
      const auto out = ssd_scan_forward(kExact, p.inputs());
      return testing::inner(out.y, p.d_y) + testing::inner(out.final_state, p.d_final_state);
    };
    const auto d = ssd_scan_backward(kExact, p.inputs(), ssd_scan_forward(kExact, p.inputs()), p.d_y, &p.d_final_state);
    const auto at = [](Index width) { return std::vector<Index>{10 * width, 11 * width, 15 * width, 16 * width, (29 + 16) * width}; };
    testing::expect_gradient("x", p.x, d.d_x, loss, at(12));
    testing::expect_gradient("dt", p.dt, d.d_dt, loss, at(4), 1e-4);  // the clamp's edges are kinks: a small step misses them
    testing::expect_gradient("A", p.A, d.d_A, loss);
    testing::expect_gradient("B", p.B, d.d_B, loss, at(10));
    testing::expect_gradient("C", p.C, d.d_C, loss, at(10));
    testing::expect_gradient("D", p.D, d.d_D, loss);
    testing::expect_gradient("z", p.z, d.d_z, loss, at(12));
    testing::expect_gradient("initial_state", p.initial_state, d.d_initial_state, loss);
    testing::expect_adjoint({{p.x, d.d_x}, {p.dt, d.d_dt}, {p.A, d.d_A}, {p.B, d.d_B}, {p.C, d.d_C}, {p.D, d.d_D}, {p.z, d.d_z},
                             {p.initial_state, d.d_initial_state}}, loss, 1e-5);  // between the clamp's edges
  }
}

// More of everything than one panel, one block of a sum or one step along the diagonal; heads cut among threads.
TEST(SsdScan, LargerThanAPanelForAnyNumberOfThreads) {
  Random random(12);
  ScanProblem<double> p(random, 1, 181, 6, 53, 2, 261);
  p.chunk_size = 77;
  for (const bool with_seq_idx : {false, true}) {
    p.with_seq_idx = with_seq_idx;
    for (Index t = 0; t < 181; ++t) p.seq_idx[t] = (t >= 20) + (t >= 77) + (t >= 100);
    const auto want = ssd_scan_recurrence_forward(kExact, p.inputs());
    set_threads(1);
    const auto alone = ssd_scan_forward(kExact, p.inputs());
    EXPECT_LT(relative_l2(alone.y, want.y), 1e-13);
    EXPECT_LT(relative_l2(alone.final_state, want.final_state), 1e-13);
    for (const int threads : {2, 3, 7}) {
      set_threads(threads);
      const auto together = ssd_scan_forward(kExact, p.inputs());
      EXPECT_TRUE(testing::same_bits(together.y, alone.y) && testing::same_bits(together.final_state, alone.final_state) &&
                  testing::same_bits(together.entering_states, alone.entering_states)) << threads << " threads";
    }
    set_threads(0);
  }
}

// Chunks of even lengths above 64 are passed in pieces: of 64, 64, 65 and 48 tokens here, the last ones short. Documents begin
// inside a piece and at its edge, inside a step along the diagonal and at its edge, at a chunk's first token and at its last.
TEST(SsdScan, ChunksInPiecesAreTheRecurrence) {
  Random random(13);
  ScanProblem<double> p(random, 2, 301, 4, 7, 2, 10);
  const auto documents = p.seq_idx;
  const std::vector<Index> begins = {3, 64, 72, 129, 130, 195, 256, 300};
  for (const Index chunk_size : {128, 256, 130, 192}) {
    p.chunk_size = chunk_size;
    for (const int with : {0, 1, 2, 3}) {
      p.with_seq_idx = with > 0;
      p.with_initial_state = with != 2;
      for (Index b = 0; b < 2; ++b)
        for (Index t = 0; t < 301; ++t)
          p.seq_idx[b * 301 + t] = with == 3 ? documents[b * 301 + t]
                                             : static_cast<std::int32_t>(std::ranges::upper_bound(begins, t) - begins.begin());
      const auto got = ssd_scan_forward(kExact, p.inputs()), want = ssd_scan_recurrence_forward(kExact, p.inputs());
      EXPECT_LT(relative_l2(got.y, want.y), 1e-13) << chunk_size;
      EXPECT_LT(relative_l2(got.final_state, want.final_state), 1e-13) << chunk_size;
    }
  }
}

TEST(SsdScan, EnteringStatesAreThoseOfTheChunksNotOfTheirPieces) {
  Random random(14);
  ScanProblem<double> p(random, 2, 301, 4, 7, 2, 10);
  p.chunk_size = 100;
  const auto got = ssd_scan_forward(kExact, p.inputs());
  p.chunk_size = 25;
  const auto fine = ssd_scan_forward(kExact, p.inputs());
  const Index of_chunk = 4 * 7 * 10;
  ASSERT_EQ(got.entering_states.shape(), (Shape{2, 4, 4, 7, 10}));
  for (Index b = 0; b < 2; ++b)
    for (Index chunk = 0; chunk < 4; ++chunk)
      for (Index i = 0; i < of_chunk; ++i)
        EXPECT_NEAR(got.entering_states[(b * 4 + chunk) * of_chunk + i], fine.entering_states[(b * 13 + 4 * chunk) * of_chunk + i], 1e-13);
  p.chunk_size = 100;
  const auto d = ssd_scan_backward(kExact, p.inputs(), got, p.d_y), want = ssd_scan_recurrence_backward(kExact, p.inputs(), p.d_y);
  EXPECT_LT(relative_l2(d.d_B, want.d_B), 1e-12);
  EXPECT_LT(relative_l2(d.d_A, want.d_A), 1e-11);
}

// From a decay that loses nothing to one whose factors underflow, alone or together, within a step along the diagonal or over a
// piece: the error is what rounding makes, and nothing is NaN.
template <class T>
void expect_decays(double limit) {
  Random random(15);
  ScanProblem<double> p(random, 1, 150, 8, 5, 1, 6);
  p.chunk_size = 128;
  p.with_z = false;
  p.A = Tensor<double>({8}, {-1e-9, -0.25, -2., -9., -40., -90., -700., -1e5});
  ScanProblem<T> q(random, 1, 150, 8, 5, 1, 6);
  const auto take = [](const Tensor<double>& from, Tensor<T>& to, Tensor<double>& exact) {
    std::copy(from.span().begin(), from.span().end(), to.span().begin());
    std::copy(to.span().begin(), to.span().end(), exact.span().begin());
  };
  for (auto [from, to] : {std::pair{&p.x, &q.x}, {&p.dt, &q.dt}, {&p.A, &q.A}, {&p.B, &q.B}, {&p.C, &q.C}, {&p.D, &q.D},
                          {&p.dt_bias, &q.dt_bias}, {&p.initial_state, &q.initial_state}})
    take(*from, *to, *from);
  q.seq_idx = p.seq_idx, q.chunk_size = p.chunk_size, q.with_z = false;
  for (const bool with_seq_idx : {false, true}) {
    p.with_seq_idx = q.with_seq_idx = with_seq_idx;
    const auto want = ssd_scan_recurrence_forward(kExact, p.inputs());
    const auto got = ssd_scan_forward(Numerics<T>{}, q.inputs());
    for (Index t = 0; t < 150; ++t)
      for (Index h = 0; h < 8; ++h)
        for (Index c = 0; c < 5; ++c) EXPECT_NEAR(got.y(0, t, h, c), want.y(0, t, h, c), limit) << "token " << t << ", head " << h;
  }
}
TEST(SsdScan, DecaysThatUnderflow) {
  expect_decays<double>(1e-12);
  expect_decays<float>(1e-4);
}

// Every term of y, and of a state on its way over a chunk, passes one exp, however many pieces the chunk has.
TEST(SsdScan, TheScaleOfExpActsOnceInAChunk) {
  Random random(16);
  ScanProblem<double> p(random, 1, 200, 2, 5, 1, 6);
  p.chunk_size = 130;
  p.with_D = p.with_z = p.with_seq_idx = p.dt_softplus = false;
  for (double& v : p.dt.span()) v = random.uniform(1, 1.1);
  for (double& a : p.A.span()) a = random.uniform(-0.02, -0.01);
  const Numerics<double> biased{.function_bias = 1 << 20};
  const double scale = biased.function_scale();
  const auto exact = ssd_scan_forward(kExact, p.inputs()), scaled = ssd_scan_forward(biased, p.inputs());
  const Index state = 2 * 5 * 6;
  for (Index i = 0; i < 130 * 2 * 5; ++i) EXPECT_NEAR(scaled.y[i], scale * exact.y[i], 1e-12);
  for (Index i = state; i < 2 * state; ++i) EXPECT_NEAR(scaled.entering_states[i], scale * exact.entering_states[i], 1e-12);
}

TEST(SsdScan, BiasGradientByFiniteDifferences) {  // without a clamp, whose edges some token would always touch
  Random random(10);
  ScanProblem<double> p(random, 2, 29, 4, 3, 2, 5);
  const auto loss = [&] { return testing::inner(ssd_scan_forward(kExact, p.inputs()).y, p.d_y); };
  const auto d = ssd_scan_backward(kExact, p.inputs(), ssd_scan_forward(kExact, p.inputs()), p.d_y);
  testing::expect_gradient("dt_bias", p.dt_bias, d.d_dt_bias, loss);
  testing::expect_adjoint({{p.dt_bias, d.d_dt_bias}, {p.dt, d.d_dt}}, loss);
}

TEST(SsdScan, VarlenStatesAreThoseOfSeparateDocuments) {
  Random random(5);
  ScanProblem<double> p(random, 1, 33, 2, 3, 1, 4);
  p.with_z = p.with_initial_state = p.with_seq_idx = false;
  const std::array<std::int32_t, 6> cu = {0, 5, 8, 8, 24, 33};  // one inside a chunk, one empty, one over chunks
  const auto states = ssd_scan_varlen_states(kExact, p.inputs(), cu);
  for (std::size_t m = 0; m + 1 < cu.size(); ++m) {
    const Index begin = cu[m], length = cu[m + 1] - begin;
    const auto slice = [&](const Tensor<double>& t) {
      Shape shape = t.shape();
      const Index width = t.size() / shape[1];
      shape[1] = length;
      return Tensor<double>(shape, std::vector<double>(t.data() + begin * width, t.data() + (begin + length) * width));
    };
    const auto x = slice(p.x), dt = slice(p.dt), B = slice(p.B), C = slice(p.C);
    const SsdScanInputs<double> alone{.x = x, .dt = dt, .A = p.A, .B = B, .C = C, .dt_bias = &p.dt_bias};
    const auto want = ssd_scan_recurrence_forward(kExact, alone).final_state;
    for (Index i = 0; i < want.size(); ++i)
      EXPECT_NEAR(states[static_cast<Index>(m) * want.size() + i], want[i], 1e-13) << "document " << m;
  }
}

TEST(SsdScan, SeqIdxFromCuSeqlens) {
  const std::array<std::int32_t, 5> cu = {0, 2, 2, 3, 5};  // the boundary token belongs to the new document
  EXPECT_EQ(seq_idx_from_cu_seqlens(cu, 7), (std::vector<std::int32_t>{0, 0, 2, 3, 3, 4, 4}));
  const std::array<std::int32_t, 2> late = {1, 2};
  EXPECT_THROW(seq_idx_from_cu_seqlens(late, 2), std::invalid_argument);
}

TEST(SsdScan, Wrong) {
  Random random(1);
  ScanProblem<double> p(random, 1, 4, 3, 2, 2, 2);
  try {
    ssd_scan_forward(kExact, p.inputs());
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "ssd_scan_forward: groups = 2; want a divisor of heads = 3");
  }
}

class SsdScanFixture : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Upstream, SsdScanFixture, ::testing::ValuesIn(testing::fixture_names("ssd_scan_")));

TEST_P(SsdScanFixture, Reproduced) {
  const auto run = [](const auto& num, const auto&, const testing::Fixture& fixture) {
    using T = typename std::remove_cvref_t<decltype(num)>::Scalar;
    std::map<std::string, Tensor<T>> t;
    for (const auto& tensor : fixture.tensors) t[tensor.name] = tensor.template as<T>();
    const auto maybe = [&](const std::string& name) { return t.contains(name) ? &t.at(name) : nullptr; };
    const auto integers = [&](const std::string& name) {
      const auto* tensor = fixture.find(name);
      return tensor ? std::vector<std::int32_t>(tensor->data.begin(), tensor->data.end()) : std::vector<std::int32_t>{};
    };
    const auto seq_idx = integers("input.seq_idx"), cu_seqlens = integers("input.cu_seqlens");
    const auto& limit = fixture.attributes.at("dt_limit");
    const SsdScanInputs<T> in{.x = t.at("input.x"), .dt = t.at("input.dt"), .A = t.at("input.A"), .B = t.at("input.B"),
                              .C = t.at("input.C"), .D = maybe("input.D"), .z = maybe("input.z"), .dt_bias = maybe("input.dt_bias"),
                              .initial_state = maybe("input.initial_state"), .seq_idx = seq_idx,
                              .chunk_size = fixture.attributes.at("chunk_size"),
                              .dt_softplus = fixture.attributes.at("dt_softplus"), .dt_min = limit[0].template get<T>(),
                              .dt_max = limit[1].is_string() ? std::numeric_limits<T>::infinity() : limit[1].template get<T>()};
    const auto out = ssd_scan_forward(num, in);
    const auto d = ssd_scan_backward(num, in, out, t.at("grad.output.y"), maybe("grad.output.final_state"));
    testing::Results<T> results{{"output.y", out.y}, {"output.final_state", out.final_state}, {"grad.input.x", d.d_x},
                                {"grad.input.dt", d.d_dt}, {"grad.input.A", d.d_A}, {"grad.input.B", d.d_B},
                                {"grad.input.C", d.d_C}, {"grad.input.D", d.d_D}, {"grad.input.z", d.d_z},
                                {"grad.input.dt_bias", d.d_dt_bias}, {"grad.input.initial_state", d.d_initial_state}};
    if (fixture.find("output.varlen_states")) results["output.varlen_states"] = ssd_scan_varlen_states(num, in, cu_seqlens);
    return results;
  };
  testing::check_fixture(GetParam(), {.relative_l2 = 5e-6}, run);
}

}  // namespace
}  // namespace assay::reference
