// The hybrid cache: what prefill and decode steps remember of the tokens before.
#pragma once

#include <vector>

#include "reference/attention_layer.h"
#include "reference/config.h"
#include "reference/tensor.h"

namespace assay::reference {

template <class T>
struct HybridCache {
  bool has_previous_state = false;           // set by the model's step after its blocks ran, even by an empty step
  Index tokens = 0;                          // seen so far, in models without attention, too
  std::vector<Tensor<T>> conv_states;        // per layer [B, Cc, K], oldest first; empty but for Mamba layers
  std::vector<Tensor<T>> ssm_states;         // per layer [B, H, P, N]; empty but for Mamba layers
  std::vector<KeyValueCache<T>> key_values;  // per layer; empty but for attention layers
  Tensor<std::uint8_t> token_mask;           // [B, tokens], 0 = padding; empty: there was none

  // Upstream's rule: key length of the first attention layer; 0 if the model has none, or before the first token.
  Index upstream_sequence_length() const;
};

template <class T>
HybridCache<T> make_cache(const NemotronV3Config& config, Index batch);

// Row b of every state becomes what row rows[b] was, as a beam search asks for. Throws std::invalid_argument for a row
// that the cache does not have.
template <class T>
void reorder(HybridCache<T>& cache, const std::vector<Index>& rows);

}  // namespace assay::reference
