// A call of the Mamba-2 mixer as calls of the operations that it is composed of, each on the candidate's own inputs to
// it: what the taps hold. A step whose inputs the candidate does not show is left out.
#pragma once

#include <string>
#include <vector>

#include "harness/core/call.h"

namespace assay::harness {

// A tensor of a step that the layer shows: all of a tensor of the layer, or channels `first` and on of every token.
struct MixerOutput {
  std::string of_step, of_layer;
  std::int64_t first = 0;
};
struct MixerStep {
  Call call;  // "linear.forward", "causal_conv1d.update", "ssd_scan.backward", ...
  std::vector<MixerOutput> outputs;
};

// `layer`: a call that has run; a backward has the taps of its forward, too. Taps without bytes were not shown.
std::vector<MixerStep> mixer_steps(const Call& layer);

// The sizes of a call of the layer, from its tensors' shapes.
struct MixerSizes {
  explicit MixerSizes(const Call& layer);
  std::int64_t batch, seq_len, hidden_size, heads, inner, groups, state_size, channels, taps;
  std::int64_t head_dim() const { return inner / heads; }
  std::int64_t projected() const { return inner + channels + heads; }
  std::int64_t keys() const { return groups * state_size; }
};

}  // namespace assay::harness
