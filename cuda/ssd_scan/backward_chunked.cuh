// Private to the family: the launches of the chunked backward, and the sizes they are compiled for.
#pragma once

#include <cuda_bf16.h>

#include "cuda/ssd_scan/backward_plan.h"

namespace assay::gpu::ssd_scan {

// The first launch: the state that enters each chunk, and the gradient of the state that leaves it (both in the
// workspace, [batch, chunks, heads, head_dim, state_size]); and d_initial_state.
template <class T>
void launch_chunk_states(const BackwardPlan& plan, const SsdScanDims& dims, const SsdScanBackward<T>& tensors,
                         T* entering, T* leaving_gradients, cudaStream_t stream);

// All three.
template <class T>
void launch_backward_chunked(const BackwardPlan& plan, const SsdScanDims& dims, const SsdScanBackward<T>& tensors,
                             cudaStream_t stream);

// Calls body.template operator()<tokens of a chunk, channels of a tile, largest state_size>().
template <class T, class Body>
void visit_chunk(const BackwardPlan& plan, Body body) {
  constexpr int kWide = sizeof(T) == 2 ? 64 : 32;
  if (plan.chunk == kWide) {
    body.template operator()<kWide, kWide, 128>();
  } else {
    body.template operator()<kWide / 2, kWide / 2, kMaxStateSize>();
  }
}

}  // namespace assay::gpu::ssd_scan
