#include "harness/cases/ssd_scan_fill.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "harness/core/random.h"

namespace assay::harness {
namespace {

constexpr double kUnitStep = 32;  // the integer fill's smallest Delta; above softplus's threshold
constexpr double kOften = 0.75;
// A state is a sum of terms of variance 5.25 kUnitStep^2 and of the initial state: after 320 tokens 6 of its standard
// deviations are 256 kUnitStep. C . B is at most state_size.
constexpr std::int64_t kMostIntegerTokens = 320, kMostIntegerStates = 256;

template <class Element>
std::vector<double> filled(std::int64_t count, Element element) {
  std::vector<double> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = element(i);
  return values;
}

class Draws {
 public:
  explicit Draws(std::uint64_t seed) : seed_(seed) {}

  std::vector<double> normals(const char* name, std::int64_t count, double scale) const {
    return filled(count, [scale, random = Random(seed_, name)](std::int64_t i) { return scale * random.normal(i); });
  }
  std::vector<double> uniforms(const char* name, std::int64_t count) const {
    return filled(count, [random = Random(seed_, name)](std::int64_t i) { return random.uniform(i); });
  }
  // One of `values`, equally often.
  std::vector<double> picks(const char* name, std::int64_t count, const std::vector<double>& values) const {
    const auto last = static_cast<std::int64_t>(values.size()) - 1;
    return filled(count, [&, random = Random(seed_, name)](std::int64_t i) {
      return values[static_cast<std::size_t>(random.integer(i, 0, last))];
    });
  }

 private:
  std::uint64_t seed_;
};

// Inverse of softplus.
double logit_of_step(double delta) { return delta + std::log(-std::expm1(-delta)); }

// Documents of any length down to 1; neighbours have different numbers, and a number may come back.
std::vector<double> documents(const ScanProblem& p) {
  const Random lengths(p.seed, "document lengths"), ids(p.seed, "input.seq_idx");
  std::vector<double> result;
  for (std::int64_t row = 0; row < p.batch; ++row) {
    std::int64_t id = row % 2 == 0 ? 0 : 3, left = 0;
    std::uint64_t n = static_cast<std::uint64_t>(row) << 32;
    for (std::int64_t t = 0; t < p.seq_len; ++t, --left) {
      if (left == 0) {
        if (t > 0) id = (id + ids.integer(n, 1, 5)) % 6;
        const std::int64_t longest = lengths.uniform(2 * n) < 0.5 ? 3 : std::max<std::int64_t>(3, p.seq_len / 2);
        left = lengths.integer(2 * n + 1, 1, longest);
        ++n;
      }
      result.push_back(static_cast<double>(id));
    }
  }
  return result;
}

// Every third document is empty, and the last one may end before the row does.
std::vector<double> boundaries(const ScanProblem& p) {
  const Random lengths(p.seed, "input.cu_seqlens");
  std::vector<double> result = {0};
  for (std::uint64_t n = 0;; ++n) {
    const std::int64_t longest = lengths.uniform(2 * n) < 0.5 ? 3 : std::max<std::int64_t>(3, p.seq_len / 2);
    const double length = n % 3 == 1 ? 0 : static_cast<double>(lengths.integer(2 * n + 1, 1, longest));
    if (result.back() + length > static_cast<double>(p.seq_len)) return result;
    result.push_back(result.back() + length);
  }
}

struct Sizes {
  std::int64_t channels, x, steps, keys, states;
};
Sizes sizes_of(const ScanProblem& p) {
  const std::int64_t channels = p.heads * p.head_dim, tokens = p.batch * p.seq_len;
  return {channels, tokens * channels, tokens * p.heads, tokens * p.groups * p.state_size,
          p.batch * channels * p.state_size};
}

ScanInputs integer_inputs(const ScanProblem& p, const Draws& draws) {
  const Sizes n = sizes_of(p);
  ScanInputs in;
  in.x = draws.picks("input.x", n.x, {1, -1, 1, -1, 1, -1, 3, -3});
  in.B = draws.picks("input.B", n.keys, {1, -1});
  in.C = draws.picks("input.C", n.keys, {1, -1});
  in.D = draws.picks("input.D", n.channels, {8, -24, 40, -56, 72, -88, 104, -120});
  in.z = draws.picks("input.z", n.x, {32, 64, 32, 0, -110});
  in.initial_state = draws.picks("input.initial_state", n.states,
                                 {kUnitStep, -kUnitStep, 3 * kUnitStep, -3 * kUnitStep, 7 * kUnitStep, -5 * kUnitStep});
  in.dt_bias = draws.picks("input.dt_bias", p.heads, {-8, -5, -1, 0, 2, 7});
  const std::vector<double> often = draws.uniforms("input.dt", n.steps), also = draws.uniforms("clamped", n.steps);
  in.dt = filled(n.steps, [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    double v = often[at] < kOften ? kUnitStep : 2 * kUnitStep;
    if (p.limited && also[at] < 0.5) v = v == kUnitStep ? kUnitStep / 4 : 4 * kUnitStep;  // the clamp moves it back
    return v - (p.bias ? in.dt_bias[static_cast<std::size_t>(i % p.heads)] : 0);
  });
  if (p.limited)
    in.dt_min = kUnitStep, in.dt_max = 2 * kUnitStep;
  else
    in.dt_max = HUGE_VAL;
  in.A = filled(p.heads, [&](std::int64_t head) {
    const double kinds[] = {0, -1000, -std::log(2.0) / kUnitStep};
    return kinds[(static_cast<std::uint64_t>(head) + p.seed) % std::size(kinds)];
  });
  return in;
}

ScanInputs real_inputs(const ScanProblem& p, const Draws& draws) {
  const Sizes n = sizes_of(p);
  const bool outlier = p.fill == "outlier", edge = p.fill == "edge";
  ScanInputs in;
  in.x = draws.normals("input.x", n.x, 1);
  in.z = draws.normals("input.z", n.x, 1.5);
  in.B = draws.normals("input.B", n.keys, 1);
  in.C = draws.normals("input.C", n.keys, 1);
  in.D = draws.normals("input.D", n.channels, 0.25);
  for (double& D : in.D) D += 1;
  in.initial_state = draws.normals("input.initial_state", n.states, 0.5);
  in.dt = draws.normals("input.dt", n.steps, 0.5);
  // As initialised: softplus(dt_bias) log-uniform in [0.001, 0.1], A in [-16, -1].
  in.dt_bias = draws.uniforms("input.dt_bias", p.heads);
  for (double& bias : in.dt_bias) bias = logit_of_step(0.001 * std::pow(100.0, bias));
  in.A = draws.uniforms("input.A", p.heads);
  for (double& A : in.A) A = -1 - 15 * A;
  if (!p.softplus) {  // Delta is dt + dt_bias itself, and a state must not grow
    for (double& dt : in.dt) dt = 0.001 + 0.1 * std::fabs(dt);
    for (double& bias : in.dt_bias) bias = 0.001 * std::fabs(bias);
  } else if (!p.bias) {
    for (double& dt : in.dt) dt -= 4;
  }
  in.dt_max = HUGE_VAL;
  if (p.limited) in.dt_min = 0.015625, in.dt_max = 0.0625;
  if (outlier) {
    for (std::size_t i = 0; i < in.x.size(); ++i)
      if (i % static_cast<std::size_t>(p.head_dim) % 13 == 5) in.x[i] *= 100, in.z[i] *= 10;
    for (std::size_t i = 0; i < in.B.size(); ++i)
      if (i % static_cast<std::size_t>(p.state_size) % 11 == 3) in.B[i] *= 100, in.C[i] *= 10;
  }
  if (edge) {
    in.dt_bias = draws.picks("edge dt_bias", p.heads, {0, 0, 0.5, 1});
    in.dt = p.softplus ? draws.picks("edge dt", n.steps, {0, 1, -1, 19.9, 20, 20.5, 30, -20, -60, -90, -110})
                       : draws.picks("edge dt", n.steps, {0, 0, 0x1p-30, 0x1p-100, 0.01, 1, 4});
    in.A = draws.picks("edge A", p.heads, {0, -0x1p-10, -1, -16});
    in.z = draws.picks("edge z", n.x, {0, 0.5, -0.5, 19, 21, -20, 60, 88, -88, -89, -104, 120, -120});
    const Random kind(p.seed, "kind");
    constexpr double kScales[] = {0, 1, 0x1p-60, 0x1p-130, 0x1p10};
    const auto scale = [&](std::size_t row) {
      return kScales[kind.integer(row, 0, static_cast<std::int64_t>(std::size(kScales)) - 1)];
    };
    for (std::size_t i = 0; i < in.x.size(); ++i) in.x[i] *= scale(i / static_cast<std::size_t>(p.head_dim));
    // As a convolution's silu leaves them: some tokens hold both 1,000 and what it leaves of -80.
    const Random saturated(p.seed, "saturated");
    const auto conv_output = [&](double v, std::size_t row) {
      v *= saturated.uniform(row) < 0.5 ? 1 : 0x1p9;
      return v / (1 + std::exp(-v));
    };
    const auto N = static_cast<std::size_t>(p.state_size);
    for (std::size_t i = 0; i < in.B.size(); ++i) in.B[i] = conv_output(in.B[i], 2 * (i / N));
    for (std::size_t i = 0; i < in.C.size(); ++i) in.C[i] = conv_output(in.C[i], 2 * (i / N) + 1);
    for (std::size_t i = 0; i < in.initial_state.size(); ++i)
      in.initial_state[i] *= scale((std::size_t{1} << 40) + i / static_cast<std::size_t>(p.state_size));
  }
  return in;
}

}  // namespace

std::vector<double> seq_idx_of(const std::vector<double>& cu_seqlens, std::int64_t seq_len) {
  return filled(seq_len, [&](std::int64_t t) {
    const auto ends = std::upper_bound(cu_seqlens.begin() + 1, cu_seqlens.end(), static_cast<double>(t));
    return static_cast<double>(ends - (cu_seqlens.begin() + 1));
  });
}

bool has_integer_fill(const ScanProblem& p) {
  return p.seq_len <= kMostIntegerTokens && p.state_size <= kMostIntegerStates;
}

ScanInputs scan_inputs(const ScanProblem& p) {
  const Draws draws(p.seed);
  ScanInputs in = p.fill == "integer" ? integer_inputs(p, draws) : real_inputs(p, draws);
  in.seq_idx = documents(p);
  in.cu_seqlens = boundaries(p);
  return in;
}

ScanGradients scan_gradients(const ScanProblem& p) {
  const Draws draws(p.seed);
  const Sizes n = sizes_of(p);
  ScanGradients d{.y = draws.normals("grad.output.y", n.x, 1),
                  .final_state = draws.normals("grad.output.final_state", n.states, 0.5)};
  if (p.fill == "outlier") {
    for (std::size_t i = 0; i < d.y.size(); ++i)
      if (i % static_cast<std::size_t>(p.head_dim) % 7 == 2) d.y[i] *= 100;
  } else if (p.fill == "edge") {
    const Random kind(p.seed, "gradients");
    constexpr double kScales[] = {0, 1, 0x1p-60, 0x1p-130, 0x1p10};
    for (std::size_t i = 0; i < d.y.size(); ++i)
      d.y[i] *= kScales[kind.integer(i / static_cast<std::size_t>(p.head_dim), 0,
                                     static_cast<std::int64_t>(std::size(kScales)) - 1)];
  }
  return d;
}

}  // namespace assay::harness
