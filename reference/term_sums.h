// What sums are made of. For an output s = sum_k t_k the limits on its rounding error need sum_k |t_k| and sum_k t_k^2; where
// the terms are products of inputs, both are the operation itself on absolute values and on squares.
#pragma once

#include "reference/causal_conv1d.h"
#include "reference/ssd_scan.h"
#include "reference/tensor.h"

namespace assay::reference {

template <class T>
struct TermSums {
  Tensor<T> absolute, squares;  // the shape of the output
};

// y = x W^T + b of linear_forward; its gradients dx = dy W and dW = dy^T x. x [.., in], weight [out, in], d_y [.., out].
template <class T>
TermSums<T> linear_term_sums(const Tensor<T>& x, const Tensor<T>& weight, MaybeTensor<T> bias = nullptr);
template <class T>
TermSums<T> linear_input_gradient_term_sums(const Tensor<T>& weight, const Tensor<T>& d_y);
template <class T>
TermSums<T> linear_weight_gradient_term_sums(const Tensor<T>& x, const Tensor<T>& d_y);

// The convolution before its SiLU.
template <class T>
TermSums<T> causal_conv1d_term_sums(const CausalConv1dInputs<T>& in);

// y before its gate, and the final state: terms C_n exp(..) Delta B_n x over tokens and states, the initial state's and D x.
template <class T>
struct SsdScanTermSums {
  TermSums<T> y, final_state;
};
template <class T>
SsdScanTermSums<T> ssd_scan_term_sums(const SsdScanInputs<T>& in);

}  // namespace assay::reference
