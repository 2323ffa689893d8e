// Does every tensor of a model hold what initialisation leaves in it? By distribution, for generators of any kind.
#pragma once

#include <string>
#include <vector>

#include "reference/init/goodness_of_fit.h"
#include "reference/init/initialize.h"
#include "reference/init/parameter_specs.h"

namespace assay::reference {

// What initialize() leaves in the parameter. Not for A_log, whose elements are unlike each other: a_log.h.
FitQuestion expected_fit(const ParameterSpec& spec, const NemotronV3Config& config, const InitOptions& options);

struct TensorFit {
  std::string name;
  FitAnswer answer;
};
// One answer a parameter, in the order of parameter_specs; missing and misshapen ones are refused. The false alarm rate
// is that of the whole model.
std::vector<TensorFit> check_initialisation(const ModelTensors& tensors, const NemotronV3Config& config,
                                            const InitOptions& options = {}, double false_alarm_rate = 1e-6);

}  // namespace assay::reference
