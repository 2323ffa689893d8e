// A model's tensors with the dtype that each is stored in: what initialisation makes, and what checkpoints hold.
#pragma once

#include <map>
#include <string>

#include "reference/config.h"
#include "reference/parameters.h"

namespace assay::reference {

struct ModelTensor {
  Tensor<float> values;  // numbers of `dtype`
  ModelDtype dtype = ModelDtype::float32;
  ParameterFlags flags;
};
using ModelTensors = std::map<std::string, ModelTensor, std::less<>>;

// The same values in the scalar that the reference computes in.
template <class T>
Parameters<T> to_parameters(const ModelTensors& tensors) {
  Parameters<T> parameters;
  for (const auto& [name, tensor] : tensors) {
    Tensor<T> value(tensor.values.shape());
    for (Index i = 0; i < value.size(); ++i) value[i] = tensor.values[i];
    parameters.set(name, std::move(value), tensor.flags);
  }
  return parameters;
}

}  // namespace assay::reference
