// Private to the family: the launch plan, and launchers that take one (tests choose their own).
#pragma once

#include "cuda/causal_conv1d/causal_conv1d.h"

namespace assay::gpu::causal_conv1d {

// A thread owns neighbouring channels and walks a tile of tokens: each row of x is read once and stays in registers for
// the taps that need it, the weights for the whole tile. What a tile reads twice is the taps - 1 rows before it and
// taps + 1 rows' worth of weights; 128 tokens keep that to 8 / (2 * 128) = 3 % of a forward's compulsory traffic.
constexpr std::int64_t kTileTokens = 128;
// An update has one token a batch row: a thread walks this many batch rows with the same weights.
constexpr std::int64_t kTileRows = 16;
constexpr int kMaxTaps = 4;  // of the tiled variants; fewer are taps of weight zero in front that are skipped
constexpr int kPast = kMaxTaps - 1;
constexpr int kThreads = 128;

enum class Variant {
  naive,            // one thread per result
  tile_by_element,  // one channel a thread: any channel count, stride and alignment
  tile_by_vector,   // 16 bytes of channels a thread
};
const char* name(Variant variant);

struct Plan {
  Variant variant;
  std::int64_t tiles;  // of a batch row (of the batch in an update); at least one, which the states need
};

// `vector_width` is what vector_width() found for the call.
Plan plan_for(const CausalConv1dDims& dims, int vector_width, Method method);
Plan plan_update(const CausalConv1dDims& dims, std::int64_t state_len, bool aligned, Method method);

void check_dims(const char* function, const CausalConv1dDims& dims);
// `any_state`: an initial or final state, or the gradient of one, is given.
void check_states(const char* function, const CausalConv1dDims& dims, bool any_state, bool seq_idx);

// Arguments are checked already.
template <class T>
void launch_forward(const Plan& plan, const CausalConv1dDims& dims, const CausalConv1dForward<T>& tensors,
                    cudaStream_t stream);
template <class T>
void launch_backward(const Plan& plan, const CausalConv1dDims& dims, const CausalConv1dBackward<T>& tensors,
                     cudaStream_t stream);
template <class T>
void launch_update(const Plan& plan, const CausalConv1dDims& dims, const CausalConv1dUpdate<T>& tensors,
                   cudaStream_t stream);

}  // namespace assay::gpu::causal_conv1d
