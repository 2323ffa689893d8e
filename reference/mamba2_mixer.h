// The Mamba2 mixer: in_proj, convolution, scan, gated norm, out_proj.
//
//   z | xBC | dt = (u m) in_proj^T      x | B | C = silu(conv(xBC))      y = scan(x, dt, B, C)
//   out = norm(y, z) out_proj^T
//
// Parameters: in_proj.weight, in_proj.bias (optional), conv1d.weight, conv1d.bias (optional), _fp32_params.{dt_bias, A_log, D},
// norm.weight, out_proj.weight, out_proj.bias (optional). The last three but one stay float32 and are used as A = -exp(A_log).
// Source: NeMo Automodel's NemotronV3Mamba2Mixer. Three paths: training (no cache), prefill and decode.
//
// The padding mask m [batch, seq_len] (1 = real) multiplies u alone: behind the convolution a padded token still gives
// silu(conv bias) and Delta = softplus(dt_bias), and writes into the state.
#pragma once

#include "reference/config.h"
#include "reference/parameters.h"
#include "reference/ssd_scan.h"

namespace assay::reference {

// Where implementations differ; the defaults are NeMo Automodel's.
struct Mamba2MixerOptions {
  bool mask_after_conv = false;        // Hugging Face: the mask also multiplies x, B and C
  bool gate_in_scan = false;           // context parallel: y silu(z) is rounded, then normed without gate
  bool clamp_by_time_step_min = false; // Hugging Face without kernels: Delta >= time_step_min instead of time_step_limit
  bool ssm_state_in_float32 = false;   // the SSM cache is float32; otherwise it has the model's dtype
};

template <class T>
struct Mamba2MixerSaved {
  Tensor<T> u;              // masked input; empty without a mask
  Tensor<T> z, xBC, dt;     // in_proj's output, cut
  Tensor<T> x, B, C;        // behind the convolution
  SsdScanForward<T> scan;
  Tensor<T> rstd, normed;
};

using PaddingMask = Tensor<std::uint8_t>;
using SeqIdx = Tensor<std::int32_t>;

// Training. hidden_states [batch, seq_len, hidden_size], or [tokens, hidden_size] for a packed stream; mask and seq_idx
// [batch, seq_len] or null. `saved`, if given, receives what backward needs.
// Throws std::invalid_argument if shapes do not agree with the configuration.
template <class T>
Tensor<T> mamba2_mixer_forward(const Numerics<T>& num, const NemotronV3Config& config, const ParameterScope<T>& p,
                               const Tensor<T>& hidden_states, const PaddingMask* mask = nullptr, const SeqIdx* seq_idx = nullptr,
                               std::type_identity_t<Mamba2MixerSaved<T>>* saved = nullptr, const Mamba2MixerOptions& options = {});

// Returns the gradient of hidden_states; those of the parameters go to d_p.
template <class T>
Tensor<T> mamba2_mixer_backward(const Numerics<T>& num, const NemotronV3Config& config, const ParameterScope<T>& p,
                                const Tensor<T>& hidden_states, const PaddingMask* mask, const SeqIdx* seq_idx,
                                const Mamba2MixerSaved<T>& saved, const Tensor<T>& d_out, const GradientScope<T>& d_p,
                                const Mamba2MixerOptions& options = {});

// What a prefill does with the states of earlier tokens.
enum class Mamba2Prefill {
  from_zeros,  // ignores them, as upstream always does; a single token still shifts the conv state
  continued,   // goes on from them: two prefills equal one
};

// Prefill: as training without seq_idx, and with the accurate softplus; writes conv_state [batch, conv_dim, K] (the last K
// columns of xBC before the convolution, oldest first, zeros where there were fewer) and ssm_state [batch, H, P, N].
template <class T>
Tensor<T> mamba2_mixer_prefill(const Numerics<T>& num, const NemotronV3Config& config, const ParameterScope<T>& p,
                               const Tensor<T>& hidden_states, const PaddingMask* mask, Tensor<T>& conv_state, Tensor<T>& ssm_state,
                               Mamba2Prefill prefill = Mamba2Prefill::from_zeros, const Mamba2MixerOptions& options = {});

// One token: hidden_states [batch, 1, hidden_size]; both states move on by it. Delta is not clamped.
template <class T>
Tensor<T> mamba2_mixer_decode(const Numerics<T>& num, const NemotronV3Config& config, const ParameterScope<T>& p,
                              const Tensor<T>& hidden_states, const PaddingMask* mask, Tensor<T>& conv_state, Tensor<T>& ssm_state,
                              const Mamba2MixerOptions& options = {});

}  // namespace assay::reference
