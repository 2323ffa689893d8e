#include "cuda/causal_conv1d/causal_conv1d.h"

#include <algorithm>

#include "cuda/causal_conv1d/causal_conv1d.cuh"
#include "cuda/common/check.h"
#include "cuda/common/row_plan.h"

namespace assay::gpu {
namespace causal_conv1d {

const char* name(Variant variant) {
  switch (variant) {
    case Variant::naive:
      return "naive";
    case Variant::tile_by_element:
      return "tile_by_element";
    case Variant::tile_by_vector:
      return "tile_by_vector";
  }
  return "?";
}

void check_dims(const char* function, const CausalConv1dDims& dims) {
  require(dims.batch >= 0, function, ": batch = ", dims.batch, "; want >= 0");
  require(dims.seq_len >= 0, function, ": seq_len = ", dims.seq_len, "; want >= 0");
  require(dims.channels >= 1 && dims.channels <= (1 << 30), function, ": channels = ", dims.channels,
          "; want 1 .. 2^30");
  require(dims.taps >= 1 && dims.taps <= (1 << 16), function, ": taps = ", dims.taps, "; want 1 .. 2^16");
  require(dims.row_stride >= dims.channels, function, ": row_stride = ", dims.row_stride,
          "; want >= channels = ", dims.channels);
}

Plan plan_for(const CausalConv1dDims& dims, int vector_width, Method method) {
  const std::int64_t tiles = std::max<std::int64_t>(1, (dims.seq_len + kTileTokens - 1) / kTileTokens);
  if (method == Method::naive || dims.taps > kMaxTaps) return {Variant::naive, tiles};
  return {vector_width > 1 ? Variant::tile_by_vector : Variant::tile_by_element, tiles};
}

// A vector is the state of one channel, which must hold as many columns as there are taps.
Plan plan_update(const CausalConv1dDims& dims, std::int64_t state_len, bool aligned, Method method) {
  const std::int64_t tiles = (dims.batch + kTileRows - 1) / kTileRows;
  if (method == Method::naive || dims.taps > kMaxTaps) return {Variant::naive, tiles};
  const bool vectors = aligned && dims.taps == kMaxTaps && state_len == kMaxTaps;
  return {vectors ? Variant::tile_by_vector : Variant::tile_by_element, tiles};
}

void check_states(const char* function, const CausalConv1dDims& dims, bool any_state, bool seq_idx) {
  require(!any_state || !seq_idx, function, ": seq_idx together with a state; want one of them at most");
  require(!any_state || dims.past() > 0, function, ": a state of taps - 1 = 0 columns; want none");
}

}  // namespace causal_conv1d

std::size_t causal_conv1d_backward_workspace(const CausalConv1dDims& dims) {
  causal_conv1d::check_dims("causal_conv1d_backward_workspace", dims);
  const causal_conv1d::Plan plan = causal_conv1d::plan_for(dims, 1, Method::automatic);
  return static_cast<std::size_t>(dims.batch * plan.tiles * dims.channels * (dims.taps + 1)) * sizeof(float);
}

const char* causal_conv1d_variant(const CausalConv1dDims& dims, std::size_t element_size, Method method) {
  causal_conv1d::check_dims("causal_conv1d_variant", dims);
  const int vector = vector_width(element_size, {dims.channels, dims.row_stride}, {});
  return name(causal_conv1d::plan_for(dims, vector, method).variant);
}

const char* causal_conv1d_update_variant(const CausalConv1dDims& dims, std::int64_t state_len, Method method) {
  causal_conv1d::check_dims("causal_conv1d_update_variant", dims);
  return name(causal_conv1d::plan_update(dims, state_len, true, method).variant);
}

}  // namespace assay::gpu
