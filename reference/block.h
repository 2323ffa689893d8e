// One block of the backbone:  h' = h + mixer(norm(h)), with one of four mixers.
//
// Parameters: norm.weight [D] and mixer.* as the block type has them.
// Matched policy: the norm's output and the sum are rounded once each. With residual_in_fp32 the stream h stays float32
// from the first block on; the norm reads it and its output is rounded to the weights' dtype.
#pragma once

#include <optional>
#include <variant>

#include "reference/attention_layer.h"
#include "reference/cache.h"
#include "reference/config.h"
#include "reference/mamba2_mixer.h"
#include "reference/mlp.h"
#include "reference/moe.h"
#include "reference/parameters.h"

namespace assay::reference {

// Where upstream does otherwise than this reference's defaults. False everywhere: the defaults.
struct Quirks {
  bool attention_ignores_cu_seqlens = false;   // attention crosses packed documents, as SDPA does
  bool automatic_cu_seqlens = false;           // B = 1 with a 2-D mask m gets cu_seqlens = [0, sum m]
  bool generation_attends_padding = false;     // cached attention sees padded keys
  bool continued_prefill_forgets = false;      // drops the Mamba history and attends to its own future
  bool ssm_cache_in_float32 = false;           // Hugging Face's mamba_ssm_cache_dtype
  bool mamba_masks_after_conv = false;         // Hugging Face's second padding mask
  bool mamba_clamps_by_time_step_min = false;  // Hugging Face without kernels, in place of time_step_limit
  bool hugging_face_norm = false;              // the normalised value is rounded before the weight
  bool hugging_face_routing = false;           // groups, a single expert, weight after down
};

// What the mixers of one forward pass see besides the hidden states.
template <class T>
struct MixerInputs {
  AttentionMask<T> attention = AttentionMask<T>::causal();
  std::optional<Tensor<std::uint8_t>> mamba_mask;  // [B, S], 1 = real
  std::optional<Tensor<std::int32_t>> seq_idx;     // [B, S], document of each token
  const Tensor<Index>* expert_indices = nullptr;   // [T, k]: the experts to use instead of the router's choice
};

template <class T>
struct BlockSaved {
  Tensor<T> hidden_states;  // h
  Tensor<T> rstd;           // [tokens]
  Tensor<T> normed;         // norm(h)
  std::variant<std::monostate, Mamba2MixerSaved<T>, AttentionLayerSaved<T>, MlpSaved<T>, MoeSaved<T>> mixer;
};

// Training path. hidden_states [B, S, D]
template <class T>
Tensor<T> block_forward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks, BlockType type,
                        const ParameterScope<T>& p, const Tensor<T>& hidden_states, const MixerInputs<T>& inputs,
                        BlockSaved<T>* saved = nullptr);

// Returns the gradient of hidden_states; those of the parameters go to d_p. stream_in_float32: hidden_states came from
// a block whose residual was kept in float32, so its gradient is not rounded.
template <class T>
Tensor<T> block_backward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks, BlockType type,
                         const ParameterScope<T>& p, const MixerInputs<T>& inputs, const BlockSaved<T>& saved,
                         const Tensor<T>& d_out, bool stream_in_float32, const GradientScope<T>& d_p);

// One step of layer `layer` with a cache: prefill, a continued prefill, or one token. `saved`, if given, receives what an
// MLP or MoE block keeps, such as the experts it chose.
template <class T>
Tensor<T> block_cached(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks, Index layer,
                       const ParameterScope<T>& p, const Tensor<T>& hidden_states, const MixerInputs<T>& inputs,
                       HybridCache<T>& cache, BlockSaved<T>* saved = nullptr);

}  // namespace assay::reference
