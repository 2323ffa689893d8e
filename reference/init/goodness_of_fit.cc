#include "reference/init/goodness_of_fit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "reference/init/uniform.h"

namespace assay::reference {
namespace {

// The neighbour `steps` above (below for negative ones) among the numbers of a dtype.
double neighbour(float value, int steps, ModelDtype dtype) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float towards = steps < 0 ? -kInfinity : kInfinity;
  for (int i = 0; i < std::abs(steps); ++i) {
    if (dtype == ModelDtype::float32) {
      value = std::nextafter(value, towards);
    } else if (value == 0) {
      value = std::copysign(0x1p-133f, towards);  // bfloat16's smallest
    } else {
      const bool away_from_zero = (value > 0) == (steps > 0);
      value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) + (away_from_zero ? 0x10000u : -0x10000u));
    }
  }
  return value;
}

// Where the numbers begin and end that may be stored as `value`.
double upper_edge(float value, const FitQuestion& q) {
  return (neighbour(value, q.slack_ulps, q.dtype) + neighbour(value, q.slack_ulps + 1, q.dtype)) / 2;
}
double lower_edge(float value, const FitQuestion& q) {
  return (neighbour(value, -q.slack_ulps, q.dtype) + neighbour(value, -q.slack_ulps - 1, q.dtype)) / 2;
}

// sup |F_n - F|, F_n being known only at the edges.
double kolmogorov_distance(std::vector<float> sorted, const FitQuestion& q) {
  std::ranges::sort(sorted);
  const auto n = static_cast<double>(sorted.size());
  double distance = 0;
  for (std::size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    while (end < sorted.size() && sorted[end] == sorted[begin]) ++end;
    const double above = end / n - q.distribution.cdf(upper_edge(sorted[begin], q));
    const double below = q.distribution.cdf(lower_edge(sorted[begin], q)) - begin / n;
    distance = std::max({distance, above, below});
  }
  return std::max(0.0, distance - q.distribution.movable);
}

// P(|z| >= |sum / sigma|) for a sum of many terms, nearly normal.
double two_sided(double sum, double sigma) { return std::erfc(std::abs(sum) / (sigma * std::sqrt(2.0))); }

// F(x) - 1/2, uniform in [-1/2, 1/2] for a right sample.
std::vector<double> centred_levels(std::span<const float> sample, const Distribution& wanted) {
  std::vector<double> levels(sample.size());
  std::ranges::transform(sample, levels.begin(), [&](float x) { return wanted.cdf(x) - 0.5; });
  return levels;
}

constexpr double kVariance = 1.0 / 12, kVarianceOfSquare = 1.0 / 180;  // of a level and of its square

double centre_p_value(const std::vector<double>& levels, double movable) {
  const auto n = static_cast<double>(levels.size());
  const double sum = std::accumulate(levels.begin(), levels.end(), 0.0);
  return two_sided(std::max(0.0, std::abs(sum) - n * movable), std::sqrt(n * kVariance));
}

double spread_p_value(const std::vector<double>& levels) {
  const auto n = static_cast<double>(levels.size());
  const double sum = std::inner_product(levels.begin(), levels.end(), levels.begin(), 0.0);
  return two_sided(sum - n * kVariance, std::sqrt(n * kVarianceOfSquare));
}

// P(any of the lags correlates as much), by the sum of the chances of each.
double lag_p_value(const std::vector<double>& levels) {
  constexpr std::size_t kFewestTerms = 64;
  double smallest = 1;
  int lags = 0;
  for (std::size_t lag = 1; lag + kFewestTerms <= levels.size(); lag *= 2, ++lags) {
    const auto terms = static_cast<double>(levels.size() - lag);
    const double sum = std::inner_product(levels.begin() + lag, levels.end(), levels.begin(), 0.0);
    smallest = std::min(smallest, two_sided(sum, std::sqrt(terms) * kVariance));
  }
  return std::min(1.0, smallest * std::max(lags, 1));
}

}  // namespace

double kolmogorov_p_value(double distance, double n) {
  const double root = std::sqrt(n), t = (root + 0.12 + 0.11 / root) * distance;
  if (t < 0.3) return 1;  // 1 - 9e-6 and above; the series below would need many terms
  double sum = 0, sign = 1;
  for (int k = 1; k <= 20; ++k, sign = -sign) sum += sign * std::exp(-2.0 * k * k * t * t);
  return std::clamp(2 * sum, 0.0, 1.0);
}

Distribution uniform_distribution(double low, double high, ModelDtype dtype) {
  std::ostringstream text;
  text << "U[" << low << ", " << high << ")";
  const auto cdf = [=](double x) { return std::clamp((x - low) / (high - low), 0.0, 1.0); };
  const float top = round_to(dtype, static_cast<float>(high));
  const double rounds_to_top = 1 - cdf((neighbour(top, -1, dtype) + double{top}) / 2);
  return {.text = text.str(), .cdf = cdf, .lowest = low, .highest = high, .movable = rounds_to_top};
}

Distribution normal_distribution(double mean, double std) {
  if (std == 0) return constant_distribution(mean);
  std::ostringstream text;
  text << "N(" << mean << ", " << std << "^2)";
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto cdf = [=](double x) { return 0.5 * std::erfc((mean - x) / (std * std::sqrt(2.0))); };
  return {.text = text.str(), .cdf = cdf, .lowest = -kInfinity, .highest = kInfinity};
}

Distribution constant_distribution(double value) {
  std::ostringstream text;
  text << "the constant " << value;
  const auto cdf = [=](double x) { return x < value ? 0.0 : 1.0; };
  return {.text = text.str(), .cdf = cdf, .lowest = value, .highest = value, .continuous = false};
}

// x = inverse softplus of dt, so dt = softplus(x); ln dt is uniform, and what lies below the floor stands on it.
Distribution dt_bias_distribution(const TimeStepRange& range) {
  std::ostringstream text;
  text << "inverse softplus of a step log-uniform in [" << range.min << ", " << range.max << "], at least "
       << range.floor;
  const auto inverse_softplus = [](double dt) { return dt + std::log(-std::expm1(-dt)); };
  const auto cdf = [range](double x) {
    const double dt = std::log1p(std::exp(x));
    if (dt < range.floor) return 0.0;
    if (range.max <= range.min) return dt < range.min ? 0.0 : 1.0;
    return std::clamp(std::log(dt / range.min) / std::log(range.max / range.min), 0.0, 1.0);
  };
  return {.text = text.str(),
          .cdf = cdf,
          .lowest = inverse_softplus(std::max(range.min, range.floor)),
          .highest = inverse_softplus(std::max(range.max, range.floor)),
          .continuous = range.floor <= range.min && range.min < range.max};
}

FitAnswer goodness_of_fit(std::span<const float> sample, const FitQuestion& question) {
  if (sample.empty()) throw std::invalid_argument("goodness_of_fit: an empty sample; want one value or more");
  FitAnswer answer;
  std::ostringstream text;
  text << question.distribution.text << ": " << sample.size() << " values";
  const Distribution& wanted = question.distribution;
  const auto outside = std::ranges::find_if(sample, [&](float x) {
    return !(upper_edge(x, question) >= wanted.lowest && lower_edge(x, question) <= wanted.highest);
  });
  if (outside != sample.end()) {
    text << "; refused: element " << outside - sample.begin() << " is " << *outside << ", outside [" << wanted.lowest
         << ", " << wanted.highest << "]";
    answer.text = text.str();
    return answer;
  }
  const double distance = kolmogorov_distance({sample.begin(), sample.end()}, question);
  answer.distance_p_value = kolmogorov_p_value(distance, static_cast<double>(sample.size()));
  if (wanted.continuous) {
    const std::vector<double> levels = centred_levels(sample, wanted);
    answer.centre_p_value = centre_p_value(levels, wanted.movable);
    answer.spread_p_value = spread_p_value(levels);
    answer.lag_p_value = lag_p_value(levels);
  }
  const struct {
    const char *test, *refusal;
    double p_value;
  } tests[] = {{"distance", "another distribution", answer.distance_p_value},
               {"centre", "another mean", answer.centre_p_value},
               {"spread", "another scale", answer.spread_p_value},
               {"lags", "elements repeat or follow each other", answer.lag_p_value}};
  for (const auto& [test, refusal, p_value] : tests) text << ", p = " << p_value << " (" << test << ")";
  answer.accepted = true;
  for (const auto& [test, refusal, p_value] : tests) {
    if (p_value >= question.false_alarm_rate / std::size(tests)) continue;
    answer.accepted = false;
    text << "; refused: " << refusal;
  }
  answer.text = text.str();
  return answer;
}

}  // namespace assay::reference
