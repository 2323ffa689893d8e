// The scan: the fills keep what they promise, and the limits lie between the errors of correct kernels, token by token
// or in chunks of any length, and the smallest mistakes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "harness/cases/family.h"
#include "harness/cases/ssd_scan_fill.h"
#include "harness/cases/ssd_scan_limits.h"

namespace assay::harness {
namespace {

ScanProblem problem(std::uint64_t seed) {
  return {.batch = 1,
          .seq_len = 320,
          .heads = 6,
          .head_dim = 5,
          .groups = 3,
          .state_size = 64,
          .softplus = true,
          .bias = seed % 2 == 0,
          .limited = seed % 3 == 0,
          .fill = "integer",
          .seed = seed};
}

TEST(ScanFill, IntegersAreExactInBfloat16AndSoAreTheStatesAlongTime) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    const ScanProblem p = problem(seed);
    const ScanInputs in = scan_inputs(p);
    for (const auto* values : {&in.x, &in.z, &in.dt, &in.dt_bias, &in.D, &in.B, &in.C, &in.initial_state})
      for (const double v : *values) ASSERT_TRUE(v == std::floor(v) && round_to_bfloat16(v) == v) << v;
    const auto delta_at = [&](std::int64_t t, std::int64_t head) {
      const double v = in.dt[t * p.heads + head] + (p.bias ? in.dt_bias[head] : 0);
      const double softplus = v > 20 ? v : std::log1p(std::exp(v));
      return std::min(std::max(softplus, in.dt_min), in.dt_max);
    };
    for (std::int64_t head = 0; head < p.heads; ++head) {
      for (std::int64_t t = 0; t < p.seq_len; ++t)
        ASSERT_TRUE(delta_at(t, head) == 32 || delta_at(t, head) == 64) << delta_at(t, head);
      if (in.A[head] != 0) continue;
      const std::int64_t group = head / 2;
      for (std::int64_t i = 0; i < p.head_dim * p.state_size; ++i) {
        double h = in.initial_state[head * p.head_dim * p.state_size + i];
        for (std::int64_t t = 0; t < p.seq_len; ++t) {
          h += delta_at(t, head) * in.x[(t * p.heads + head) * p.head_dim + i / p.state_size] *
               in.B[(t * p.groups + group) * p.state_size + i % p.state_size];
          ASSERT_EQ(round_to_bfloat16(h), h);
        }
      }
    }
  }
}

TEST(ScanFill, HeadsForgetNothingEverythingAndByPowersOfTwo) {
  const ScanInputs in = scan_inputs(problem(4));
  EXPECT_EQ(std::count(in.A.begin(), in.A.end(), 0), 2);
  EXPECT_EQ(std::count(in.A.begin(), in.A.end(), -1000), 2);
  EXPECT_EQ(std::count_if(in.A.begin(), in.A.end(), [](double A) { return std::exp(32 * A) == 0.5; }), 2);
}

TEST(ScanFill, DocumentsBeginWithTheirRow) {
  ScanProblem p = problem(3);
  p.batch = 2;
  const std::vector<double> ids = scan_inputs(p).seq_idx;
  EXPECT_EQ(ids[0], 0);    // goes on from the initial state
  EXPECT_NE(ids[320], 0);  // does not
  int boundaries = 0;
  for (std::size_t t = 1; t < 320; ++t) boundaries += ids[t] != ids[t - 1];
  EXPECT_GE(boundaries, 3);
}

constexpr char kSizes[] = "ssd_scan/forward batch=2 seq_len=150 heads=4 head_dim=8 groups=2 state_size=32 ";
Case case_of(const std::string& options, const std::string& dtype, const std::string& fill = "model") {
  return parse_case(kSizes + options + " dt=f32 params=f32 layout=compact dtype=" + dtype + " fill=" + fill +
                    " seed=5");
}
Call call_of(const Case& c) { return family("ssd_scan").calls(c).front(); }
const std::string kPlain = "gate=no D=head bias=yes softplus=yes limits=open states=both documents=packed";

// How a scan in float32, token by token, may go wrong.
struct Mistake {
  std::int64_t dropped_key = -1;  // a term of y's sum that is left out
  bool decay_of_token_before = false;
};
std::vector<double> plain_y(const Call& call, const Mistake& mistake) {
  const auto at = [&](const char* name, std::int64_t i) { return static_cast<float>(call.tensor(name).at(i)); };
  const Shape &x = call.tensor("input.x").shape, &B = call.tensor("input.B").shape;
  const std::int64_t T = x[1], H = x[2], P = x[3], G = B[2], N = B[3];
  std::vector<double> y(static_cast<std::size_t>(x[0] * T * H * P));
  for (std::int64_t row = 0; row < x[0]; ++row)
    for (std::int64_t channel = 0; channel < H * P; ++channel) {
      const std::int64_t head = channel / P;
      std::vector<float> h;
      for (std::int64_t n = 0; n < N; ++n) h.push_back(at("input.initial_state", (row * H * P + channel) * N + n));
      float before = 0, delta_before = 0;
      for (std::int64_t token = row * T; token < (row + 1) * T; ++token) {
        const float delta = std::log1p(std::exp(at("input.dt", token * H + head) + at("input.dt_bias", head)));
        float decay = std::exp((mistake.decay_of_token_before ? delta_before : delta) * at("input.A", head));
        delta_before = delta;
        if (at("input.seq_idx", token) != before) decay = 0;
        before = at("input.seq_idx", token);
        const float xt = at("input.x", token * H * P + channel);
        float sum = at("input.D", head) * xt;
        for (std::int64_t n = 0; n < N; ++n) {
          const std::int64_t key = (token * G + head / (H / G)) * N + n;
          h[n] = decay * h[n] + at("input.B", key) * delta * xt;
          if (n != mistake.dropped_key) sum += h[n] * at("input.C", key);
        }
        y[token * H * P + channel] = round_to(call.tensor("output.y").dtype, sum);
      }
    }
  return y;
}

std::int64_t beyond(const Expectation& want, const std::vector<double>& got) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < want.size(); ++i) count += !(std::fabs(got[i] - want.oracle[i]) <= want.limit[i]);
  return count;
}

TEST(ScanLimits, HoldFloat32TokenByTokenAndNoMistake) {
  for (const char* dtype : {"f32", "bf16"}) {
    const Call call = call_of(case_of(kPlain, dtype));
    const Expectation want = family("ssd_scan").expect(call, assay_contract{}, false).front();
    ASSERT_EQ(want.tensor, "output.y");
    EXPECT_EQ(beyond(want, plain_y(call, {})), 0);
    EXPECT_GT(beyond(want, plain_y(call, {.dropped_key = 17})), want.size() / 2);
    EXPECT_GT(beyond(want, plain_y(call, {.decay_of_token_before = true})), want.size() / 3);
  }
}

assay_contract tensor_cores(assay_multiply multiply) {
  assay_contract contract{};
  contract.multiply = multiply;
  contract.accumulate = ASSAY_ACCUMULATE_FP32_TENSOR_CORE;
  return contract;
}

// The reference's own float32 arithmetic in chunks, with a bfloat16 model's roundings of operands: what a kernel for
// chunks of this length does.
TEST(ScanLimits, HoldBfloat16InChunksOfAnyLengthWhereTheContractSaysSo) {
  for (const std::int64_t chunk_size : {1, 16, 64, 128, 256}) {
    Call call = call_of(case_of(kPlain, "bf16"));
    std::get<std::int64_t>(call.attributes.at(0).second) = chunk_size;
    const auto expect = [&](const assay_contract& contract) {
      return family("ssd_scan").expect(call, contract, false);
    };
    for (const Expectation& want : expect(tensor_cores(ASSAY_MULTIPLY_BF16)))
      EXPECT_EQ(beyond(want, want.matched), 0) << want.tensor << " in chunks of " << chunk_size;
    for (const Expectation& want : expect({}))
      EXPECT_GT(beyond(want, want.matched), want.size() / 20) << want.tensor << " in chunks of " << chunk_size;
  }
}

TEST(ScanLimits, HoldFloat32InChunksOfAnyLength) {
  for (const std::int64_t chunk_size : {1, 16, 64, 256}) {
    Call call = call_of(case_of(kPlain, "f32"));
    std::get<std::int64_t>(call.attributes.at(0).second) = chunk_size;
    for (const assay_contract& contract : {assay_contract{}, tensor_cores(ASSAY_MULTIPLY_3XTF32)})
      for (const Expectation& want : family("ssd_scan").expect(call, contract, false))
        EXPECT_EQ(beyond(want, want.matched), 0) << want.tensor << " in chunks of " << chunk_size;
  }
}

// A contract that promises less is judged by wider limits.
TEST(ScanLimits, GrowWithWhatTheContractLeavesOpen) {
  const Call call = call_of(case_of(kPlain, "f32"));
  double before = 0;
  for (const assay_contract& contract :
       {tensor_cores(ASSAY_MULTIPLY_3XTF32), tensor_cores(ASSAY_MULTIPLY_TF32), tensor_cores(ASSAY_MULTIPLY_BF16)}) {
    const Expectation want = family("ssd_scan").expect(call, contract, false).front();
    double squares = 0;
    for (const double limit : want.limit) squares += limit * limit;
    EXPECT_GT(squares, 1.5 * before);
    before = squares;
  }
}

TEST(ScanLimits, AreZeroWhereIntegersAreExact) {
  const Call call = call_of(case_of(kPlain, "bf16", "integer"));
  const Expectation want = family("ssd_scan").expect(call, tensor_cores(ASSAY_MULTIPLY_BF16), true).front();
  for (std::int64_t i = 0; i < want.size(); ++i) {
    const double A = call.tensor("input.A").at(i / 8 % 4);
    EXPECT_EQ(want.limit[i] == 0, A == 0 || A == -1000);
  }
}

TEST(ScanCase, NamesWhatItCannotTake) {
  const Family& f = family("ssd_scan");
  const auto check = [&](const std::string& sizes, const std::string& fill = "model") {
    f.check(parse_case("ssd_scan/forward " + sizes + " " + kPlain +
                       " dt=model params=f32 layout=compact dtype=f32 fill=" + fill + " seed=5"));
  };
  EXPECT_NO_THROW(check("batch=0 seq_len=0 heads=4 head_dim=16 groups=2 state_size=64"));
  EXPECT_THROW(check("batch=1 seq_len=3 heads=4 head_dim=16 groups=3 state_size=64"), std::invalid_argument);
  EXPECT_THROW(check("batch=1 seq_len=3 heads=4 head_dim=0 groups=2 state_size=64"), std::invalid_argument);
  EXPECT_THROW(check("batch=1 heads=4 head_dim=1 groups=2 state_size=1"), std::invalid_argument);
  EXPECT_THROW(check("batch=1 seq_len=321 heads=4 head_dim=1 groups=2 state_size=1", "integer"), std::invalid_argument);
}

// A limit that has grown to the size of what it judges judges nothing.
TEST(ScanGradientLimits, AreSmallPartsOfTheGradients) {
  for (const std::string dtype : {"f32", "bf16"}) {
    const Case c = parse_case(
        "ssd_scan/backward batch=2 seq_len=150 heads=4 head_dim=16 groups=2 state_size=32 gate=yes D=channel bias=yes "
        "softplus=yes limits=open states=both documents=packed dt=f32 params=f32 layout=compact dtype=" +
        dtype + " fill=model seed=5");
    const Call call = family("ssd_scan").calls(c).back();
    const auto contract = tensor_cores(dtype == "f32" ? ASSAY_MULTIPLY_3XTF32 : ASSAY_MULTIPLY_BF16);
    const std::vector<Expectation> all = family("ssd_scan").expect(call, contract, false);
    EXPECT_EQ(all.size(), 9u);
    for (const Expectation& e : all) {
      double limits = 0, values = 0;
      for (std::size_t i = 0; i < e.oracle.size(); ++i)
        limits += e.limit[i] * e.limit[i], values += e.oracle[i] * e.oracle[i];
      // In sums over tokens the deviations add.
      const bool sum = e.tensor == "grad.input.A" || e.tensor == "grad.input.dt_bias";
      const double part = dtype == "f32" ? (sum ? 0x1p-8 : 0x1p-11) : sum ? 0x1p-1 : 0x1p-3;
      EXPECT_LT(std::sqrt(limits / values), part) << e.tensor;
    }
  }
}

}  // namespace
}  // namespace assay::harness
