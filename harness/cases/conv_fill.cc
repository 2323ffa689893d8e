#include "harness/cases/conv_fill.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "harness/core/random.h"

namespace assay::harness {
namespace {

constexpr std::int64_t kMostIntegerTokens = 4096;  // 62 * 63 * 4096 < 2^24
constexpr std::uint64_t kSecondStream = std::uint64_t{1} << 40;

struct Streams {
  Random x, weight, bias, state, d_output, d_state, kinds;
  explicit Streams(std::uint64_t seed)
      : x(seed, "input.hidden_states"),
        weight(seed, "param.weight"),
        bias(seed, "param.bias"),
        state(seed, "input.initial_state"),
        d_output(seed, "grad.output.hidden_states"),
        d_state(seed, "grad.output.final_state"),
        kinds(seed, "kind") {}
};

template <class Draw>
std::vector<double> drawn(std::int64_t size, Draw draw) {
  std::vector<double> values(static_cast<std::size_t>(size));
  for (std::int64_t i = 0; i < size; ++i) values[static_cast<std::size_t>(i)] = draw(i);
  return values;
}

// +-(1, 3, ..., most) scale
auto odd(const Random& random, std::int64_t most, double scale) {
  return [&random, most, scale](std::int64_t i) {
    const auto size = static_cast<double>(2 * random.integer(2 * i, 0, (most - 1) / 2) + 1);
    return random.uniform(2 * i + 1) < 0.5 ? -size * scale : size * scale;
  };
}

// Documents of any length down to 1. An id may come back after others, and two neighbours may share one.
std::vector<double> documents(const ConvProblem& p) {
  const Random lengths(p.seed, "document lengths"), ids(p.seed, "input.seq_idx");
  std::vector<double> result;
  const std::int64_t tokens = p.batch * p.seq_len;
  for (std::uint64_t n = 0; static_cast<std::int64_t>(result.size()) < tokens; ++n) {
    const std::int64_t longest = lengths.uniform(2 * n) < 0.5 ? 3 : std::max<std::int64_t>(3, p.seq_len / 2);
    const std::int64_t length = lengths.integer(2 * n + 1, 1, longest);
    result.insert(result.end(), static_cast<std::size_t>(length), static_cast<double>(ids.integer(n, -1, 5)));
  }
  result.resize(static_cast<std::size_t>(tokens));
  return result;
}

ConvInputs integer_inputs(const ConvProblem& p, const Streams& s) {
  const std::int64_t size = p.batch * p.seq_len * p.channels, states = p.batch * p.channels * p.state_len;
  ConvInputs in;
  in.hidden_states = drawn(size, odd(s.x, 63, 16));
  in.weight = drawn(p.channels * p.taps, odd(s.weight, 15, 8));
  // Mostly above 0, so that silu lets more than half of the values through.
  in.bias = drawn(p.channels, [&](std::int64_t i) {
    const double n = odd(s.bias, 63, 2048)(i);
    return s.kinds.uniform(i) < 0.7 ? std::fabs(n) : n;
  });
  in.state = drawn(states, odd(s.state, 63, 16));
  in.d_output = drawn(size, odd(s.d_output, 31, 2));
  in.d_state = drawn(states, odd(s.d_state, 127, 8));
  return in;
}

// One token's kind in fill `edge`.
enum class Edge { zero, denormal, tiny, large, plain, count };

ConvInputs real_inputs(const ConvProblem& p, const Streams& s) {
  const std::int64_t size = p.batch * p.seq_len * p.channels, states = p.batch * p.channels * p.state_len;
  const bool outlier = p.fill == "outlier", edge = p.fill == "edge";
  // As the layer is initialised: uniform within 1 / sqrt(taps).
  const double bound = 1 / std::sqrt(static_cast<double>(p.taps));
  const auto channel_scale = [&](std::int64_t c) {
    const double rare = 4.0 / static_cast<double>(std::max<std::int64_t>(p.channels, 8));
    return outlier && s.kinds.uniform(static_cast<std::uint64_t>(c) + kSecondStream) < rare ? 100.0 : 1.0;
  };
  ConvInputs in;
  in.hidden_states = drawn(size, [&](std::int64_t i) {
    double value = s.x.normal(i) * channel_scale(i % p.channels);
    if (!edge) return value;
    switch (static_cast<Edge>(s.kinds.integer(i / p.channels, 0, static_cast<int>(Edge::count) - 1))) {
      case Edge::zero:
        return 0.0;
      case Edge::denormal:
        return value * 0x1p-130;
      case Edge::tiny:
        return value * 0x1p-60;
      case Edge::large:
        return value * 0x1p20;
      default:
        return value;
    }
  });
  in.weight = drawn(p.channels * p.taps, [&](std::int64_t i) { return bound * (2 * s.weight.uniform(i) - 1); });
  in.bias = drawn(p.channels, [&](std::int64_t i) {
    constexpr double kSaturating[] = {0, 0.5, -0.5, 19, 21, -20, 60, 88, -88, -89, -104, 120, -120};
    return edge ? kSaturating[s.bias.integer(i, 0, std::size(kSaturating) - 1)] : bound * (2 * s.bias.uniform(i) - 1);
  });
  in.state = drawn(states, [&](std::int64_t i) {
    return s.state.normal(i) * channel_scale(i / std::max<std::int64_t>(p.state_len, 1) % p.channels);
  });
  in.d_output = drawn(size, [&](std::int64_t i) { return s.d_output.normal(i); });
  in.d_state = drawn(states, [&](std::int64_t i) { return 0.5 * s.d_state.normal(i); });
  return in;
}

}  // namespace

bool has_integer_fill(const ConvProblem& p) { return p.batch * p.seq_len <= kMostIntegerTokens; }

ConvInputs conv_inputs(const ConvProblem& p) {
  const Streams streams(p.seed);
  ConvInputs in = p.fill == "integer" ? integer_inputs(p, streams) : real_inputs(p, streams);
  in.seq_idx = documents(p);
  return in;
}

}  // namespace assay::harness
