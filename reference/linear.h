// Linear: y = x W^T + b. A product of the model's dtype: sums in the policy's scalar, the bias added before the one rounding.
#pragma once

#include "reference/numerics.h"
#include "reference/tensor.h"

namespace assay::reference {

// x [.., in], weight [out, in], bias [out] or null -> y [.., out]. Throws std::invalid_argument if shapes do not agree.
template <class T>
Tensor<T> linear_forward(const Numerics<T>& num, const Tensor<T>& x, const Tensor<T>& weight, MaybeTensor<T> bias = nullptr);

template <class T>
struct LinearGradients {
  Tensor<T> x;       // [.., in]      dy W
  Tensor<T> weight;  // [out, in]     dy^T x, summed over all tokens, rounded once
  Tensor<T> bias;    // [out]         sum over tokens of dy; empty unless has_bias
};

// d_y [.., out]
template <class T>
LinearGradients<T> linear_backward(const Numerics<T>& num, const Tensor<T>& x, const Tensor<T>& weight, const Tensor<T>& d_y,
                                   bool has_bias = false);

}  // namespace assay::reference
