// One step of the state space scan, in place: what decoding does instead of ssd_scan.
//
//   Delta = softplus(dt + dt_bias), not clamped by default      h <- h exp(Delta A) + (B Delta) x      y = h C + D x   (. silu(z))
//
// Source: mamba_ssm selective_state_update: everything in float; the state is rounded to its own dtype when it is stored, but
// y comes from the state before that rounding, and is rounded once.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "reference/numerics.h"
#include "reference/tensor.h"

namespace assay::reference {

template <class T>
struct SsmStateUpdateInputs {
  const Tensor<T>& x;                  // [batch, heads, head_dim]
  const Tensor<T>& dt;                 // [batch, heads], raw
  const Tensor<T>& A;                  // [heads], negative
  const Tensor<T>& B;                  // [batch, groups, state_size]
  const Tensor<T>& C;                  // [batch, groups, state_size]
  const Tensor<T>* D = nullptr;        // [heads], or [heads, head_dim]
  const Tensor<T>* z = nullptr;        // gate, the shape of x
  const Tensor<T>* dt_bias = nullptr;  // [heads]
  bool dt_softplus = true;
  T dt_min = -std::numeric_limits<T>::infinity();  // Hugging Face's torch path clamps here, too
  std::span<const std::int32_t> state_rows = {};  // [batch]: the state's row of each batch row; below 0: padding, y = 0
};

// state [rows, heads, head_dim, state_size], rows = batch without state_rows. state_storage: the dtype the state is kept in.
// Returns y, the shape of x. Throws std::invalid_argument if shapes do not agree or a state row does not exist.
template <class T>
Tensor<T> ssm_state_update(const Numerics<T>& num, const SsmStateUpdateInputs<T>& in, Tensor<T>& state, Storage state_storage);

}  // namespace assay::reference
