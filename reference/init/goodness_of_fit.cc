#include "reference/init/goodness_of_fit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
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

// P(any of the lags correlates as much): each sum of (F(x_i) - mean)(F(x_(i+lag)) - mean) is nearly normal for
// independent x, being a sum of many uncorrelated terms.
double lag_p_value(std::span<const float> sample, const FitQuestion& q) {
  std::vector<double> level(sample.size());
  for (std::size_t i = 0; i < sample.size(); ++i) level[i] = q.distribution.cdf(sample[i]);
  double mean = 0, variance = 0;
  for (const double u : level) mean += u / level.size();
  for (const double u : level) variance += (u - mean) * (u - mean) / level.size();
  constexpr std::size_t kFewestTerms = 64;
  double smallest = 1;
  int lags = 0;
  for (std::size_t lag = 1; lag + kFewestTerms <= level.size(); lag *= 2, ++lags) {
    double sum = 0;
    for (std::size_t i = 0; i + lag < level.size(); ++i) sum += (level[i] - mean) * (level[i + lag] - mean);
    const double z = variance > 0 ? sum / (variance * std::sqrt(static_cast<double>(level.size() - lag))) : 0;
    smallest = std::min(smallest, std::erfc(std::abs(z) / std::sqrt(2.0)));
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
  return {text.str(), cdf, low, high, rounds_to_top};
}

Distribution normal_distribution(double mean, double std) {
  std::ostringstream text;
  text << "N(" << mean << ", " << std << "^2)";
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return {text.str(), [=](double x) { return 0.5 * std::erfc((mean - x) / (std * std::sqrt(2.0))); }, -kInfinity, kInfinity};
}

Distribution constant_distribution(double value) {
  std::ostringstream text;
  text << "the constant " << value;
  return {text.str(), [=](double x) { return x < value ? 0.0 : 1.0; }, value, value};
}

// x = inverse softplus of dt, so dt = softplus(x); ln dt is uniform, and what lies below the floor stands on it.
Distribution dt_bias_distribution(const TimeStepRange& range) {
  std::ostringstream text;
  text << "inverse softplus of a step log-uniform in [" << range.min << ", " << range.max << "], at least " << range.floor;
  const auto inverse_softplus = [](double dt) { return dt + std::log(-std::expm1(-dt)); };
  const auto cdf = [range](double x) {
    const double dt = std::log1p(std::exp(x));
    if (dt < range.floor) return 0.0;
    if (range.max <= range.min) return dt < range.min ? 0.0 : 1.0;
    return std::clamp(std::log(dt / range.min) / std::log(range.max / range.min), 0.0, 1.0);
  };
  return {text.str(), cdf, inverse_softplus(std::max(range.min, range.floor)),
          inverse_softplus(std::max(range.max, range.floor))};
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
  answer.distance = kolmogorov_distance({sample.begin(), sample.end()}, question);
  answer.distance_p_value = kolmogorov_p_value(answer.distance, static_cast<double>(sample.size()));
  answer.lag_p_value = lag_p_value(sample, question);
  const double share = question.false_alarm_rate / 2;
  const bool fits = answer.distance_p_value >= share, independent = answer.lag_p_value >= share;
  answer.accepted = fits && independent;
  text << ", distance " << answer.distance << " (p = " << answer.distance_p_value << "), lags (p = " << answer.lag_p_value
       << ")";
  if (!fits) text << "; refused: not of this distribution";
  if (!independent) text << "; refused: elements repeat or follow each other";
  answer.text = text.str();
  return answer;
}

}  // namespace assay::reference
