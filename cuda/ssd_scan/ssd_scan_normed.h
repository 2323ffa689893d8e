// The state space scan with the gate and the group norm of a Mamba-2 mixer behind it, forward, in one launch: y stays
// in shared memory. For every token, and every group of heads that share B and C:
//
//   y   = rnd_T(state C + D x)                                                 as ssd_scan_forward without a gate
//   v   = y silu(z)
//   out = rnd_T(norm_weight v rstd),   rstd = 1 / sqrt(mean of v^2 over the group's channels + eps)
//
// It rounds where ssd_scan_forward and gated_rms_norm_forward, one after the other, round; sums have a fixed order.
#pragma once

#include "cuda/ssd_scan/ssd_scan.h"

namespace assay::gpu {

template <class T>
struct SsdScanNorm {
  const T* z;       // [batch, seq_len, heads, head_dim], z_stride of the dims apart
  const T* weight;  // [heads * head_dim]
  float eps;
  T* out;                 // [batch, seq_len, heads, head_dim], compact
  float* rstd = nullptr;  // [groups, batch * seq_len], for backward; or null
};

// What a block may have of shared memory: cudaDevAttrMaxSharedMemoryPerBlockOptin of the device. This is sm_90's and
// sm_100's; sm_80 has 163 KB, sm_120 99 KB.
constexpr std::size_t kBlockSharedMemory = 227 * 1024;

// scan: as for ssd_scan_forward, without z, ungated_y and varlen_states; its y may be null. Workspace: ssd_scan_normed_workspace
// bytes. Asynchronous on `stream`. Throws std::invalid_argument, before any launch, if an argument is unusable.
template <class T>  // float, __nv_bfloat16
void ssd_scan_normed_forward(const SsdScanDims& dims, const SsdScanForward<T>& scan, const SsdScanNorm<T>& norm,
                             cudaStream_t stream, Method method = Method::automatic,
                             std::size_t shared_memory = kBlockSharedMemory);

// Of either variant: pointers that are not 16-byte aligned, too, have room for y.
std::size_t ssd_scan_normed_workspace(const SsdScanDims& dims, std::size_t element_size,
                                      std::size_t shared_memory = kBlockSharedMemory);

// "chunked_normed" where ssd_scan is chunked, a group has at most 1,280 channels and a chunk's y fits in shared memory
// beside the rest; else "scan_then_norm": ssd_scan_forward and gated_rms_norm_forward, y going through the workspace.
const char* ssd_scan_normed_variant(const SsdScanDims& dims, std::size_t element_size,
                                    Method method = Method::automatic, std::size_t shared_memory = kBlockSharedMemory);

}  // namespace assay::gpu
