// The ReLU^2 MLP:  h = u W1^T + b1,  a = max(h, 0)^2,  y = a W2^T + b2.
//
// Parameters: up_proj.weight [F, D], up_proj.bias [F] (optional), down_proj.weight [D, F], down_proj.bias [D]
// (optional). Matched policy: h, a and y are each rounded once; backward a_bar and h_bar likewise.
#pragma once

#include "reference/parameters.h"

namespace assay::reference {

// max(h, 0)^2 and its derivative. The derivative at 0 is 0.
template <class T>
T relu2(T h) {
  return h > 0 ? h * h : T(0);
}
template <class T>
T relu2_derivative(T h) {
  return h > 0 ? 2 * h : T(0);
}

template <class T>
struct MlpSaved {
  Tensor<T> h;  // [.., F]
};

// hidden_states [.., D] -> [.., D]
template <class T>
Tensor<T> mlp_forward(const Numerics<T>& num, const ParameterScope<T>& p, const Tensor<T>& hidden_states,
                      MlpSaved<T>* saved = nullptr);

// Returns the gradient of hidden_states; those of the parameters go to d_p.
template <class T>
Tensor<T> mlp_backward(const Numerics<T>& num, const ParameterScope<T>& p, const Tensor<T>& hidden_states,
                       const MlpSaved<T>& saved, const Tensor<T>& d_out, const GradientScope<T>& d_p);

}  // namespace assay::reference
