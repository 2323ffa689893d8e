// The Mamba2 mixer under context parallelism: outside the scan a rank holds a share of the tokens and all
// channels, inside it all tokens and a share of the heads. Every rank in one process; an all-to-all is a gather here.
//
// The gate acts inside the scan, before y is rounded, and the norm outside, without gate, because a norm group may
// straddle ranks. Every rank holds all parameters and contributes to the gradient of its slice.
#pragma once

#include <vector>

#include "reference/config.h"
#include "reference/parallel_partitions.h"
#include "reference/ssd_scan.h"

namespace assay::reference {

// The heads, channels and groups of one rank. Ranks beyond the groups share one: Rg = H / G heads read it wherever they
// are.
struct MambaRankSlice {
  Index first_head, heads;
  Index first_group, groups;
};
// Throws std::invalid_argument unless H mod c = 0, and G mod c = 0 or c mod G = 0.
MambaRankSlice mamba_rank_slice(const NemotronV3Config& config, Index rank, Index ranks);

template <class T>
struct ContextParallelMambaRank {  // what one rank's scan keeps for its backward pass
  Tensor<T> z, xBC, dt;            // [B, S, ..], the rank's channels of all tokens
  Tensor<T> x, B, C;               // after the convolution
  Tensor<T> A;                     // [heads]
  SsdScanForward<T> scan;
};
template <class T>
struct ContextParallelMambaSaved {
  std::vector<ContextParallelMambaRank<T>> scans;
  std::vector<Tensor<T>> y, rstd, normed;  // of each rank's tokens
};

// hidden_states: shard_tokens of [B, S, D]. Documents restart convolution and scan where tokens holds more than one.
template <class T>
std::vector<Tensor<T>> context_parallel_mamba_forward(const Numerics<T>& num, const NemotronV3Config& config,
                                                      const ParameterScope<T>& p,
                                                      const std::vector<Tensor<T>>& hidden_states,
                                                      const ContextParallelTokens& tokens,
                                                      ContextParallelMambaSaved<T>* saved = nullptr);
template <class T>
std::vector<Tensor<T>> context_parallel_mamba_backward(
    const Numerics<T>& num, const NemotronV3Config& config, const ParameterScope<T>& p,
    const std::vector<Tensor<T>>& hidden_states, const ContextParallelTokens& tokens,
    const ContextParallelMambaSaved<T>& saved, const std::vector<Tensor<T>>& d_out, const GradientScope<T>& d_p);

}  // namespace assay::reference
