// Was this tensor drawn from that distribution? For kernels with a generator of their own, whose values no stream of
// uniforms predicts.
//
// Tests that share the allowed rate of false alarms evenly:
//   Distance, of Kolmogorov and Smirnov: the largest one between the sample's distribution function and the wanted one.
//     Stored values are rounded, so both are compared at the edges of the interval that rounds to a value: exact for a
//     rounded sample, where comparing at the values themselves would raise alarms on every large bfloat16 tensor.
//   Centre and spread: the means of F(x) - 1/2 and of its square, which see a wrong mean or scale sooner than the
//     distance does.
//   Lags: the correlation of F(x[i]) and F(x[i + lag]) over powers of two, since a generator that gives every warp or
//     every block the same numbers has the right distribution.
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
  bool continuous = true;  // no single value has a probability: F(x) is uniform
  double movable = 0;      // probability that a rule may move elsewhere: distances up to it are no evidence
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
  // The chances that a right sample looks as odd as this one or odder, by each test.
  double distance_p_value = 1, centre_p_value = 1, spread_p_value = 1, lag_p_value = 1;
  std::string text;  // "N(0, 0.02^2): 4096 values, p = 0.68 (distance), ...", and what was refused
};
// Throws std::invalid_argument for an empty sample. A NaN is refused.
FitAnswer goodness_of_fit(std::span<const float> sample, const FitQuestion& question);

// P(distance >= d) for n independent values of a continuous distribution: Kolmogorov's limit with Stephens' correction
// for small n, within 1 % relative above 1e-9 for n >= 20. For rounded values an upper bound.
double kolmogorov_p_value(double distance, double n);

}  // namespace assay::reference
