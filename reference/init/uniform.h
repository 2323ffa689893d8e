// The uniform rule: U[low, high) as a pure function of a unit uniform.
#pragma once

#include <cmath>

#include "reference/config.h"
#include "reference/elementary.h"

namespace assay::reference {

// `value` as a number of the dtype, in a float: float32 or bfloat16.
inline float round_to(ModelDtype dtype, float value) {
  return dtype == ModelDtype::bfloat16 ? round_to_bfloat16(value) : value;
}

// The limits in the type that a device samples in, each and their difference rounded to it.
struct UniformRange {
  float low, high, width;
};
inline UniformRange uniform_range(double low, double high, ModelDtype sampling) {
  const float a = round_to(sampling, static_cast<float>(low)), b = round_to(sampling, static_cast<float>(high));
  return {a, b, round_to(sampling, b - a)};
}

// fma(unit, high - low, low) in float32, rounded once to the dtype; what rounds to `high` becomes `low`, so that the
// interval stays half open.
inline float uniform_from_unit(float unit, const UniformRange& range, ModelDtype dtype) {
  const float value = round_to(dtype, std::fma(unit, range.width, range.low));
  return value == round_to(dtype, range.high) ? round_to(dtype, range.low) : value;
}

inline double uniform_from_unit(double unit, double low, double high) {
  const double value = std::fma(unit, high - low, low);
  return value == high ? low : value;
}

}  // namespace assay::reference
