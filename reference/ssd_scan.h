// The state space scan of Mamba-2 (SSD). For every batch row and head h, of group g = h / (heads / groups):
//
//   v_t = dt_t + dt_bias      s_t = softplus(v_t)      Delta_t = clamp(s_t, dt_min, dt_max)
//   h_t = kappa_t exp(Delta_t A) h_{t-1} + Delta_t x_t B_t^T          [head_dim, state_size]
//   y_t = h_t C_t + D x_t                                             (times silu(z_t) where there is a gate)
//
// kappa_t = 1 without seq_idx; with it the state is dropped before the first token of a document: kappa_t = [seq_idx_t =
// seq_idx_{t-1}], and kappa_0 = [seq_idx_0 = 0], since 0 continues the initial state.
//
// The functions here compute the chunked form with matrix products, and with the roundings of mamba_ssm's chunked kernels
// where the policy stores bfloat16. ssd_scan_recurrence.h has the definition itself; in exact arithmetic both agree for
// every chunk size.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "reference/numerics.h"
#include "reference/tensor.h"

namespace assay::reference {

template <class T>
struct SsdScanInputs {
  const Tensor<T>& x;                         // [batch, seq_len, heads, head_dim]
  const Tensor<T>& dt;                        // [batch, seq_len, heads], raw
  const Tensor<T>& A;                         // [heads], negative
  const Tensor<T>& B;                         // [batch, seq_len, groups, state_size]
  const Tensor<T>& C;                         // [batch, seq_len, groups, state_size]
  const Tensor<T>* D = nullptr;               // [heads], or [heads, head_dim]
  const Tensor<T>* z = nullptr;               // gate, the shape of x
  const Tensor<T>* dt_bias = nullptr;         // [heads]
  const Tensor<T>* initial_state = nullptr;   // [batch, heads, head_dim, state_size]; null: zeros
  std::span<const std::int32_t> seq_idx = {}; // batch * seq_len document numbers, or none
  Index chunk_size = 128;
  bool dt_softplus = true;                    // false: s_t = v_t
  T dt_min = 0, dt_max = std::numeric_limits<T>::infinity();
};

template <class T>
struct SsdScanForward {
  Tensor<T> y;                // [batch, seq_len, heads, head_dim]
  Tensor<T> final_state;      // [batch, heads, head_dim, state_size], float32 whatever the policy stores
  Tensor<T> entering_states;  // [batch, chunks, heads, head_dim, state_size], for backward
  Tensor<T> ungated_y;        // the shape of y, for backward; empty without a gate
};

// Throws std::invalid_argument if shapes do not agree, groups do not divide heads, or chunk_size < 1.
template <class T>
SsdScanForward<T> ssd_scan_forward(const Numerics<T>& num, const SsdScanInputs<T>& in);

// The state at the end of every document of a packed row: the recurrence restarted at the document's first token. batch must
// be 1; cu_seqlens [documents + 1] from 0 to seq_len or less. An empty document gives zeros. in.seq_idx and
// in.initial_state are not looked at. Rounded to the model dtype, as the library returns it.
template <class T>
Tensor<T> ssd_scan_varlen_states(const Numerics<T>& num, const SsdScanInputs<T>& in, std::span<const std::int32_t> cu_seqlens);

template <class T>
struct SsdScanBackward {
  Tensor<T> d_x, d_dt, d_B, d_C, d_z;         // model dtype; d_z is empty without a gate
  Tensor<T> d_A, d_D, d_dt_bias;              // float32; empty where the input is absent
  Tensor<T> d_initial_state;                  // rounded to the model dtype as upstream does; empty without one
};

// d_y in the shape of y; d_final_state in that of the final state, null for zero. Gradients pass a clamp at equality.
// `forward` is what ssd_scan_forward returned for the same inputs.
template <class T>
SsdScanBackward<T> ssd_scan_backward(const Numerics<T>& num, const SsdScanInputs<T>& in, const SsdScanForward<T>& forward,
                                     const Tensor<T>& d_y, MaybeTensor<T> d_final_state = nullptr);

// seq_idx of packed documents: the number of boundaries among cu_seqlens[1 ..] that are <= t. Throws std::invalid_argument
// if cu_seqlens does not begin at 0 or decreases.
std::vector<std::int32_t> seq_idx_from_cu_seqlens(std::span<const std::int32_t> cu_seqlens, Index tokens);

}  // namespace assay::reference
