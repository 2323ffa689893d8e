#include "harness/cases/ssm_state_update_fill.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <utility>

#include "harness/core/random.h"

namespace assay::harness {
namespace {

template <class Element>
std::vector<double> filled(std::int64_t count, Element element) {
  std::vector<double> values(count);
  for (std::int64_t i = 0; i < count; ++i) values[i] = element(i);
  return values;
}

// Whole numbers in [-largest, largest] without 0.
std::vector<double> integers(const StateUpdateProblem& p, const char* name, std::int64_t count, std::int64_t largest) {
  const Random random(p.seed, name);
  return filled(count, [&](std::int64_t i) {
    const auto value = static_cast<double>(random.integer(2 * i, 1, largest));
    return random.uniform(2 * i + 1) < 0.5 ? -value : value;
  });
}

std::vector<double> normals(const StateUpdateProblem& p, const char* name, std::int64_t count, double scale) {
  const Random random(p.seed, name);
  return filled(count, [&](std::int64_t i) { return scale * random.normal(i); });
}

template <std::size_t n>
std::vector<double> picks(const StateUpdateProblem& p, const char* name, std::int64_t count,
                          const double (&values)[n]) {
  const Random random(p.seed, name);
  return filled(count, [&](std::int64_t i) { return values[random.integer(i, 0, static_cast<std::int64_t>(n) - 1)]; });
}

std::vector<double> cache_rows(const StateUpdateProblem& p) {
  const Random random(p.seed, "cache_row");
  std::vector<double> free(p.cache_rows);
  std::iota(free.begin(), free.end(), 0);
  return filled(p.batch, [&](std::int64_t row) {
    if (row % 4 == 2) return -1.0;
    const auto last = static_cast<std::int64_t>(free.size()) - 1;
    const double chosen = std::exchange(free[random.integer(row, 0, last)], free.back());
    free.pop_back();
    return chosen;
  });
}

// Inverse of softplus.
double logit_of_step(double delta) { return delta + std::log(-std::expm1(-delta)); }

}  // namespace

StateUpdateInputs state_update_inputs(const StateUpdateProblem& p) {
  const std::int64_t channels = p.heads * p.head_dim, x = p.batch * channels, steps = p.batch * p.heads,
                     keys = p.batch * p.groups * p.state_size, state = p.cache_rows * channels * p.state_size;
  StateUpdateInputs in;
  in.cache_row = cache_rows(p);
  if (p.fill == "integer") {
    in.x = integers(p, "x", x, 7);
    in.B = integers(p, "B", keys, 7);
    in.C = integers(p, "C", keys, 7);
    in.D = integers(p, "D", channels, 31);
    in.state = integers(p, "state", state, 127);
    const Random dt(p.seed, "dt");
    in.dt_bias = filled(p.heads, [&](std::int64_t i) { return static_cast<double>(dt.integer(i, -8, 8)); });
    in.dt = filled(steps, [&](std::int64_t i) {
      return static_cast<double>(dt.integer(i + (std::int64_t{1} << 40), 21, 31)) - (p.bias ? in.dt_bias[i % p.heads] : 0);
    });
    in.A = picks(p, "A", p.heads, {0, 0, -1000});
    in.z = picks(p, "z", x, {32, 64, 32, 0, -110});
    return in;
  }
  const bool outlier = p.fill == "outlier", edge = p.fill == "edge";
  in.x = normals(p, "x", x, 1);
  in.z = normals(p, "z", x, 1.5);
  in.B = normals(p, "B", keys, 1);
  in.C = normals(p, "C", keys, 1);
  in.D = filled(channels, [d = Random(p.seed, "D")](std::int64_t i) { return 1 + 0.25 * d.normal(i); });
  in.state = normals(p, "state", state, 0.5);
  in.dt = normals(p, "dt", steps, 0.5);
  // As initialised: softplus(dt_bias) log-uniform in [0.001, 0.1], A in [-16, -1].
  in.dt_bias = filled(p.heads, [r = Random(p.seed, "dt_bias")](std::int64_t i) {
    return logit_of_step(0.001 * std::pow(100.0, r.uniform(i)));
  });
  in.A = filled(p.heads, [r = Random(p.seed, "A")](std::int64_t i) { return -1 - 15 * r.uniform(i); });
  if (!p.softplus)  // Delta is dt + dt_bias itself, and a state must not grow
    for (double& dt : in.dt) dt = std::fabs(dt) + 7;
  if (outlier) {
    for (std::int64_t i = 0; i < x; ++i)
      if (i % p.head_dim % 13 == 5) in.x[i] *= 100, in.z[i] *= 10;
    for (std::int64_t i = 0; i < keys; ++i)
      if (i % p.state_size % 11 == 3) in.B[i] *= 100, in.C[i] *= 10;
  }
  if (edge) {
    in.dt_bias = picks(p, "edge dt_bias", p.heads, {0, -0.5, 1, 19});
    if (p.softplus) in.dt = picks(p, "edge dt", steps, {0, 1, -1, 19.9, 20, 20.5, 30, -20, -60, -90, -110});
    in.A = picks(p, "edge A", p.heads, {0, -0x1p-10, -1, -16, -1e4});
    in.z = picks(p, "edge z", x, {0, 0.5, -0.5, 19, 21, -20, 60, 88, -88, -89, -104, 120, -120});
    const Random kind(p.seed, "kind");
    constexpr double kScales[] = {0, 1, 0x1p-60, 0x1p-130, 0x1p30};
    for (std::int64_t i = 0; i < x; ++i) in.x[i] *= kScales[kind.integer(i / p.head_dim, 0, 3)];
    for (std::int64_t i = 0; i < state; ++i)
      in.state[i] *= kScales[kind.integer(i / p.state_size + (std::int64_t{1} << 40), 0, std::size(kScales) - 1)];
  }
  return in;
}

}  // namespace assay::harness
