// Was this tensor drawn from that distribution? For kernels with a generator of their own, whose values no stream of
// uniforms predicts.
//
// Two tests share the allowed rate of false alarms evenly:
//   Kolmogorov and Smirnov's: the largest distance between the sample's distribution function and the wanted one. Stored
//     values are rounded, so both are compared at the edges of the interval that rounds to a value: exact for a rounded
//     sample, where a comparison at the values themselves would raise alarms on every large bfloat16 tensor.
//   Lag correlation: the correlation of F(x[i]) and F(x[i + lag]) over powers of two, since a generator that gives every
//     warp or every block the same numbers has the right distribution.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "reference/config.h"
#include "reference/init/dt_bias.h"

namespace assay::reference {

// What a tensor should hold: a distribution function, and the closed interval outside of which no value may lie.
struct Distribution {
  std::string text;  // "N(0, 0.02^2)"
  std::function<double(double)> cdf;
  double lowest, highest;
  double movable = 0;  // probability that a rule may move elsewhere: distances up to it are no evidence
};
// Numbers that round to `high` may become `low` (uniform.h), which moves up to an ulp's worth of probability.
Distribution uniform_distribution(double low, double high, ModelDtype dtype = ModelDtype::float32);
Distribution normal_distribution(double mean, double std);
Distribution constant_distribution(double value);
Distribution dt_bias_distribution(const TimeStepRange& range);

struct FitQuestion {
  Distribution distribution;
  ModelDtype dtype = ModelDtype::float32;
  // Error of a value beyond its one rounding to dtype, in units in the last place: 0 for a value rounded once.
  int slack_ulps = 0;
  // The chance of refusing a right tensor. Who asks about many tensors divides it by their number.
  double false_alarm_rate = 1e-6;
};

struct FitAnswer {
  bool accepted = false;
  double distance = 0;          // Kolmogorov's
  double distance_p_value = 1;  // the chance of such a distance or a larger one
  double lag_p_value = 1;       // of the largest correlation, over all lags
  std::string text;             // "N(0, 0.02^2): 4096 values, distance 0.011 (p = 0.68), ...", and what was refused
};
// Throws std::invalid_argument for an empty sample. A NaN is refused.
FitAnswer goodness_of_fit(std::span<const float> sample, const FitQuestion& question);

// P(distance >= d) for n independent values of a continuous distribution: Kolmogorov's limit with Stephens' correction
// for small n, within 1 % relative above 1e-9 for n >= 20. For rounded values an upper bound.
double kolmogorov_p_value(double distance, double n);

}  // namespace assay::reference
