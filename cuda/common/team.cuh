// The threads that share one row: a warp or a block. Kernels are written once, against rank(), size() and sum().
#pragma once

#include "cuda/common/row_plan.h"
#include "cuda/simt/simt.cuh"

namespace assay::gpu {

// The sum over a warp, the same bits in every lane: each step adds the same two numbers on both sides.
SIMT_DEV float warp_sum(float value) {
  SIMT_UNROLL
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  }
  return value;
}

class WarpTeam {
 public:
  static constexpr int kMaxThreads = kWarpTeamThreads;
  static constexpr int kMinBlocks =
      3;  // per multiprocessor: 168 registers a thread. Left to itself, ptxas saves some and spills

  SIMT_DEV WarpTeam() : rank_(static_cast<int>(threadIdx.x) % kWarpSize) {}
  SIMT_DEV int rank() const { return rank_; }
  SIMT_DEV int size() const { return kWarpSize; }
  // The teams of a grid are numbered: first() is this one, count() all. It takes rows first(), first() + count(), ...
  SIMT_DEV std::int64_t first() const {
    return (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarpSize;
  }
  SIMT_DEV std::int64_t count() const { return static_cast<std::int64_t>(gridDim.x) * blockDim.x / kWarpSize; }
  // The same bits in every thread of the team.
  SIMT_DEV float sum(float value, bool /*guarded*/ = true) const { return warp_sum(value); }

 private:
  int rank_;
};

template <int kThreads>
class BlockTeam {
 public:
  static constexpr int kMaxThreads = kThreads;
  static constexpr int kMinBlocks = 1;

  SIMT_DEV BlockTeam() : rank_(static_cast<int>(threadIdx.x)), size_(static_cast<int>(blockDim.x)) {}
  SIMT_DEV int rank() const { return rank_; }
  SIMT_DEV int size() const { return size_; }
  SIMT_DEV std::int64_t first() const { return blockIdx.x; }
  SIMT_DEV std::int64_t count() const { return gridDim.x; }

  // guarded: the threads first wait for each other, because the last row's sum may still be being read.
  SIMT_DEV float sum(float value, bool guarded = true) const {
    SIMT_SHARED(float[kMaxThreads / kWarpSize], warp_sums);
    value = warp_sum(value);
    if (guarded) __syncthreads();
    if (rank() % kWarpSize == 0) warp_sums[rank() / kWarpSize] = value;
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < size() / kWarpSize; ++warp) total += warp_sums[warp];
    return total;
  }

 private:
  int rank_, size_;
};

template <int kVec>
inline constexpr int kKeptVectors = kept_vectors(kVec);

// Calls body(i, k) for each vector i of a row that is this thread's. A kept row has at most kKeptVectors<kVec> of
// them per thread, k = 0, 1, ...: indices into registers. A row of any length is not kept; then k = 0 throughout.
template <bool kKept, int kVec, class Team, class Body>
SIMT_DEV void for_each_vector(const Team& team, int vectors, Body body) {
  if constexpr (kKept) {
    SIMT_UNROLL
    for (int k = 0; k < kKeptVectors<kVec>; ++k) {
      const int i = team.rank() + k * team.size();
      if (i < vectors) body(i, k);
    }
  } else {
    for (int i = team.rank(); i < vectors; i += team.size()) body(i, 0);
  }
}

// Calls body.template operator()<Team, kVec, kKept>() as the plan for activations of type T says; not for naive.
template <class T, int kMaxBlockThreads, class Body>
void visit_row_plan(const RowPlan& plan, Body body) {
  using Block = BlockTeam<kMaxBlockThreads>;
  constexpr int kVec = 16 / sizeof(T);
  const bool vectors = plan.vector_width > 1;
  switch (plan.variant) {
    case RowVariant::naive:
      break;
    case RowVariant::warp_per_row:
      return vectors ? body.template operator()<WarpTeam, kVec, true>() : body.template operator()<WarpTeam, 1, true>();
    case RowVariant::block_per_row:
      return vectors ? body.template operator()<Block, kVec, true>() : body.template operator()<Block, 1, true>();
    case RowVariant::block_rereads_row:
      return vectors ? body.template operator()<Block, kVec, false>() : body.template operator()<Block, 1, false>();
  }
}

}  // namespace assay::gpu
