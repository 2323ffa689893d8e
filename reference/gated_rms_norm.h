// Gated group RMSNorm: the norm after the Mamba-2 scan. The gate multiplies before the norm (norm_before_gate = false), and
// every group of neighbouring channels is normed on its own.
//
//   v = hidden_states silu(gate) (hidden_states alone without a gate)
//   rstd = 1 / sqrt(mean_{j in group} v_j^2 + eps)      y = weight v rstd
//
// Source: mamba_ssm layernorm_gated: everything in float, one rounding of y to the model dtype.
#pragma once

#include "reference/numerics.h"
#include "reference/tensor.h"

namespace assay::reference {

template <class T>
struct GatedRmsNormForward {
  Tensor<T> hidden_states;  // y [rows, width]
  Tensor<T> rstd;           // [width / group_size, rows], for backward
};

// hidden_states, gate [rows, width]; weight [width]; gate may be null.
// Throws std::invalid_argument if shapes do not agree, group_size does not divide width, or eps < 0.
template <class T>
GatedRmsNormForward<T> gated_rms_norm_forward(const Numerics<T>& num, const Tensor<T>& hidden_states, MaybeTensor<T> gate,
                                              const Tensor<T>& weight, Index group_size, std::type_identity_t<T> eps);

template <class T>
struct GatedRmsNormBackward {
  Tensor<T> d_hidden_states;  // [rows, width]
  Tensor<T> d_gate;           // [rows, width]; empty without a gate
  Tensor<T> d_weight;         // [width], summed over rows in a fixed order, rounded once
};

// With vhat = v rstd, u = weight dy, c = mean_{j in group} u_j vhat_j, d_v = rstd (u - vhat c):
//
//   d_hidden_states = d_v silu(gate)    d_gate = d_v hidden_states silu'(gate)    d_weight = sum over rows of dy vhat
template <class T>
GatedRmsNormBackward<T> gated_rms_norm_backward(const Numerics<T>& num, const Tensor<T>& hidden_states, MaybeTensor<T> gate,
                                                const Tensor<T>& weight, const Tensor<T>& rstd, const Tensor<T>& d_y,
                                                Index group_size);

}  // namespace assay::reference
