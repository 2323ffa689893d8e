// A linear layer by its place among the parameters: "weight" [out, in] of a scope and, where there is one, "bias"
// [out].
#pragma once

#include <string>

#include "reference/linear.h"
#include "reference/parameters.h"

namespace assay::reference {

// x [.., in] -> [.., out]. Throws std::invalid_argument if the parameters are not those of `out` outputs.
template <class T>
Tensor<T> projection_forward(const Numerics<T>& num, const ParameterScope<T>& p, const Tensor<T>& x, Index out) {
  const Tensor<T>* bias = p.find("bias");
  if (bias) p.with_shape("bias", {out});
  return linear_forward(num, x, p.with_shape("weight", {out, x.dim(-1)}), bias);
}

// Returns the gradient of x; those of the parameters go to d_p, under the name that they have in p ("q_proj.").
template <class T>
Tensor<T> projection_backward(const Numerics<T>& num, const ParameterScope<T>& p, const std::string& name,
                              const Tensor<T>& x, const Tensor<T>& d_y, const GradientScope<T>& d_p) {
  const bool has_bias = p.find(name + "bias") != nullptr;
  LinearGradients<T> d = linear_backward(num, x, p[name + "weight"], d_y, has_bias);
  d_p.add(num, name + "weight", std::move(d.weight));
  if (has_bias) d_p.add(num, name + "bias", std::move(d.bias));
  return std::move(d.x);
}

}  // namespace assay::reference
