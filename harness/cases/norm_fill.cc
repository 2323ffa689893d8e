#include "harness/cases/norm_fill.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <utility>

#include "harness/core/random.h"

namespace assay::harness {
namespace {

constexpr double kSilent[] = {0, -110};  // gates whose silu is 0
constexpr double kOpen = 32;             // a gate whose silu is itself, in float32: e^-32 is below half an ulp of 1
constexpr std::int64_t kLargest = 85;    // |v|: u = v_i +- v_j then fits bfloat16's 8 bits

// n as a sum of four squares, each at most kLargest^2. Without that bound there always is one (Lagrange); with it, 2
// and 6 times a high power of 4 have none.
std::optional<std::array<std::int64_t, 4>> four_squares(std::int64_t n) {
  const auto root = [](std::int64_t x) { return static_cast<std::int64_t>(std::sqrt(static_cast<double>(x))); };
  // From the middle down: balanced parts are found at once.
  for (std::int64_t a = std::min({kLargest, root(n), root(n / 4) + 12}); a >= 0; --a)
    for (std::int64_t b = std::min(kLargest, root(n - a * a)); b >= 0; --b) {
      const std::int64_t rest = n - a * a - b * b;
      for (std::int64_t c = std::min(kLargest, root(rest)); c >= 0 && 2 * c * c >= rest; --c) {
        const std::int64_t d = root(rest - c * c);
        if (d * d == rest - c * c && d <= kLargest) return {{a, b, c, d}};
      }
    }
  return {};
}

// Integers v[0 .. count) with sum of squares `target`, all odd but the last four.
std::vector<std::int64_t> integers_with_squares(std::int64_t count, std::int64_t target, const Random& random,
                                                std::uint64_t base) {
  std::vector<std::int64_t> v(count);
  const double scale = std::sqrt(3.0 * static_cast<double>(target) / static_cast<double>(count));
  const auto bound = std::min<std::int64_t>(kLargest, static_cast<std::int64_t>(scale));
  std::int64_t rest = target;
  for (std::int64_t i = 0; i + 4 < count; ++i) {
    v[i] = random.integer(base + i, 0, (bound - 1) / 2) * 2 + 1;
    rest -= v[i] * v[i];
  }
  // Move elements towards small or large values until four squares can close the sum.
  const std::int64_t mean = target / count;
  const std::int64_t low = 4, high = std::min<std::int64_t>(4 * 70 * 70, std::max<std::int64_t>(16 * mean, 64));
  for (std::int64_t i = 0, step = 0;; i = (i + 1) % (count - 4), ++step) {
    if (count == 4 || (rest >= low && rest <= high))
      if (const auto last = four_squares(rest)) {
        std::copy(last->begin(), last->end(), v.end() - 4);
        break;
      }
    if (count == 4 || step > 64 * count) throw std::logic_error("integers_with_squares: no way to reach the sum");
    const bool grow = rest > high || (rest >= low && v[i] < kLargest);
    const std::int64_t wanted = grow ? std::min(kLargest, v[i] + 2) : std::max<std::int64_t>(1, v[i] - 2);
    rest += v[i] * v[i] - wanted * wanted;
    v[i] = wanted;
  }
  for (std::int64_t i = 0; i < count; ++i)
    if (random.uniform(base + i + (std::uint64_t{1} << 40)) < 0.5) v[i] = -v[i];
  return v;
}

NormInputs integer_inputs(const NormProblem& p) {
  const Random exponents(p.seed, "exponent"), values(p.seed, "value"), gates(p.seed, "gate"), weights(p.seed, "weight"),
      gradients(p.seed, "gradient"), residuals(p.seed, "residual");
  const std::int64_t size = p.rows * p.width;
  NormInputs in;
  in.hidden_states.resize(size);
  in.d_output.resize(size);
  if (p.gate) in.gate.resize(size);
  if (p.residual) in.residual.resize(size), in.d_residual.resize(size);
  in.weight.resize(p.width);
  for (std::int64_t i = 0; i < p.width; ++i)
    in.weight[i] =
        std::ldexp(weights.uniform(2 * i) < 0.5 ? -1 : 1, static_cast<int>(weights.integer(2 * i + 1, -1, 1)));

  const int smallest = std::clamp((13 - std::countr_zero(static_cast<std::uint64_t>(p.group))) / 2, 3, 5);
  for (std::int64_t row = 0; row < p.rows; ++row)
    for (std::int64_t first = 0; first < p.width; first += p.group) {
      const std::int64_t base = row * p.width + first;
      const int m = static_cast<int>(exponents.integer(base, smallest, 5));
      // The last four of a group always count: they close the sum of squares.
      std::vector<std::int64_t> active;
      for (std::int64_t i = 0; i < p.group; ++i)
        if (!p.gate || p.group < 16 || i >= p.group - 4 || gates.uniform(base + i) > 0.2) active.push_back(base + i);
      const std::int64_t target = (p.group << (2 * m)) - p.group / 4;
      const std::vector<std::int64_t> v =
          integers_with_squares(static_cast<std::int64_t>(active.size()), target, values, base);

      for (std::int64_t i = base; i < base + p.group; ++i) {  // channels that the gate silences
        if (!p.gate) break;
        in.gate[i] = kSilent[gates.integer(i + (std::uint64_t{1} << 40), 0, 1)];
        in.hidden_states[i] = static_cast<double>(values.integer(i + (std::uint64_t{1} << 41), 1, 100));
        in.d_output[i] = static_cast<double>(gradients.integer(i, -100, 100)) / in.weight[i % p.width];
      }
      const double k = gradients.uniform(base + (std::uint64_t{1} << 40)) < 0.5 ? -1 : 1;
      const double a = gradients.uniform(base + (std::uint64_t{1} << 41)) < 0.5 ? -1 : 1;
      const auto count = static_cast<std::int64_t>(active.size());
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t partner = i ^ 1;
        const double rotated = partner >= count ? 0 : i % 2 == 0 ? a * v[partner] : -a * v[partner];
        const std::int64_t at = active[i];
        in.hidden_states[at] = static_cast<double>(v[i]) / (p.gate ? kOpen : 1);
        if (p.gate) in.gate[at] = kOpen;
        in.d_output[at] = (k * v[i] + rotated) / in.weight[at % p.width];
      }
    }
  if (p.residual)
    for (std::int64_t i = 0; i < size; ++i) {
      in.residual[i] = static_cast<double>(residuals.integer(2 * i, -60, 60));
      in.hidden_states[i] -= in.residual[i];
      in.d_residual[i] = static_cast<double>(residuals.integer(2 * i + 1, -15, 15));
    }
  return in;
}

// One row's kind in fill `edge`.
enum class Edge { zero, denormal, tiny, near_eps, large, single, plain, count };

NormInputs real_inputs(const NormProblem& p) {
  const Random x(p.seed, "input.hidden_states"), z(p.seed, "input.gate"), r(p.seed, "input.residual"),
      w(p.seed, "param.weight"), dy(p.seed, "grad.output.hidden_states"), dr(p.seed, "grad.output.residual"),
      kinds(p.seed, "kind");
  const std::int64_t size = p.rows * p.width;
  NormInputs in;
  in.hidden_states.resize(size);
  in.d_output.resize(size);
  if (p.gate) in.gate.resize(size);
  if (p.residual) in.residual.resize(size), in.d_residual.resize(size);
  in.weight.resize(p.width);
  for (std::int64_t i = 0; i < p.width; ++i) in.weight[i] = 1 + 0.25 * w.normal(i);

  const bool outlier = p.fill == "outlier", edge = p.fill == "edge";
  for (std::int64_t row = 0; row < p.rows; ++row) {
    const auto kind = static_cast<Edge>(kinds.integer(row, 0, static_cast<int>(Edge::count) - 1));
    double scale = std::exp2(kinds.integer(row + (std::uint64_t{1} << 40), -2, 2));
    if (outlier && row % 3 == 1) scale = std::sqrt(p.eps) * scale;  // rows whose root mean square is near sqrt(eps)
    for (std::int64_t c = 0; c < p.width; ++c) {
      const std::int64_t i = row * p.width + c;
      double value = scale * x.normal(i), gate = 1.5 * z.normal(i), residual = scale * r.normal(i);
      if (outlier &&
          kinds.uniform(c + (std::uint64_t{1} << 41)) < 4.0 / static_cast<double>(std::max<std::int64_t>(p.width, 8))) {
        value *= 100;
        gate *= 10;
      }
      if (edge) {
        if (kind == Edge::zero) value = residual = 0;
        if (kind == Edge::denormal) value *= 0x1p-130, residual *= 0x1p-132;
        if (kind == Edge::tiny) value *= 0x1p-60, residual *= 0x1p-60;
        if (kind == Edge::near_eps) value *= std::sqrt(p.eps), residual *= std::sqrt(p.eps);
        if (kind == Edge::large) value *= 0x1p40, residual *= 0x1p38;
        if (kind == Edge::single) value = c == row % p.width ? value : 0, residual = 0;
        constexpr double kGates[] = {0, 0.5, -0.5, 19, 20, 21, -20, 60, 88, -88, -89, -104, 120, -120};
        gate = kGates[z.integer(i, 0, std::size(kGates) - 1)];
      }
      in.hidden_states[i] = value;
      if (p.gate) in.gate[i] = gate;
      if (p.residual) in.residual[i] = residual, in.d_residual[i] = 0.5 * dr.normal(i);
      in.d_output[i] = dy.normal(i);
    }
  }
  return in;
}

}  // namespace

bool has_integer_fill(std::int64_t rows, std::int64_t group) {
  return rows <= 64 && group >= 4 && group <= 4096 && std::has_single_bit(static_cast<std::uint64_t>(group));
}

NormInputs norm_inputs(const NormProblem& problem) {
  return problem.fill == "integer" ? integer_inputs(problem) : real_inputs(problem);
}

}  // namespace assay::harness
