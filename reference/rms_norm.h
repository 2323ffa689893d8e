// RMSNorm: block norms, final norm, the norms of multi-token prediction; optionally after adding the residual stream.
//
//   h = hidden_states + residual (hidden_states alone without a residual)
//   rstd = 1 / sqrt(mean_j h_j^2 + eps)      y = weight h rstd
//
// Source: NeMo Automodel's `torch_fp32` norm: everything in float, eps inside the root, one rounding of y to the model dtype.
// h is rounded to the model dtype first, unless the stream is kept in float (`residual_in_fp32`).
#pragma once

#include "reference/numerics.h"
#include "reference/tensor.h"

namespace assay::reference {

struct RmsNormOptions {
  bool residual_in_fp32 = false;
  bool round_normed_first = false;  // Hugging Face's norm: h rstd is rounded before the weight multiplies it
};

template <class T>
struct RmsNormForward {
  Tensor<T> hidden_states;  // y [rows, width]
  Tensor<T> residual;       // h [rows, width]; empty without a residual, where h is the input itself
  Tensor<T> rstd;           // [rows], for backward
};

// hidden_states, residual [rows, width]; weight [width]; residual may be null.
// Throws std::invalid_argument if shapes do not agree or eps < 0.
template <class T>
RmsNormForward<T> rms_norm_forward(const Numerics<T>& num, const Tensor<T>& hidden_states, const Tensor<T>& weight,
                                   MaybeTensor<T> residual, std::type_identity_t<T> eps, const RmsNormOptions& options = {});

template <class T>
struct RmsNormBackward {
  Tensor<T> d_hidden_states;  // [rows, width]
  Tensor<T> d_residual;       // [rows, width]; empty without d_residual_out: then it equals d_hidden_states
  Tensor<T> d_weight;         // [width], summed over rows in a fixed order, rounded once
};

// With xhat = h rstd, u = weight dy, c = mean_j u_j xhat_j:
//
//   d_h = rstd (u - xhat c) + d_residual_out      d_weight = sum over rows of dy xhat
//
// h [rows, width] is forward's residual output, or its input where there was no residual. d_hidden_states is d_h rounded to
// the model dtype; d_residual is the same unless the stream is kept in float. d_residual_out may be null.
template <class T>
RmsNormBackward<T> rms_norm_backward(const Numerics<T>& num, const Tensor<T>& h, const Tensor<T>& weight, const Tensor<T>& rstd,
                                     const Tensor<T>& d_y, MaybeTensor<T> d_residual_out, const RmsNormOptions& options = {});

}  // namespace assay::reference
