// dt_bias: the inverse softplus of a step that is log-uniform in [time_step_min, time_step_max], at least
// time_step_floor; so softplus(dt_bias) is that step.
#pragma once

#include <algorithm>

#include "reference/config.h"
#include "reference/elementary.h"

namespace assay::reference {

struct TimeStepRange {
  double min, max, floor;
};
inline TimeStepRange time_step_range(const NemotronV3Config& config) {
  return {config.time_step_min, config.time_step_max, config.time_step_floor};
}

// dt = max(exp(u (ln max - ln min) + ln min), floor);  dt_bias = dt + ln(-expm1(-dt))
// Every operation is rounded to float32, each function from its exact value: upstream's own ones are within 2 ulp.
inline float dt_bias_from_uniform(float u, const TimeStepRange& range) {
  const double log_min = log(range.min);
  const float width = static_cast<float>(log(range.max) - log_min), low = static_cast<float>(log_min);
  const float log_dt = u * width + low;
  const float dt = std::max(static_cast<float>(exp(double{log_dt})), static_cast<float>(range.floor));
  const float one_minus_decay = -static_cast<float>(expm1(-double{dt}));
  return dt + static_cast<float>(log(double{one_minus_decay}));
}

}  // namespace assay::reference
