#include <algorithm>

#include "cuda/common/check.h"
#include "cuda/gated_rms_norm/gated_rms_norm.h"
#include "cuda/ssd_scan/ssd_scan.cuh"
#include "cuda/ssd_scan/ssd_scan_normed.h"

namespace assay::gpu {
namespace {

const char* const kName = "ssd_scan_normed_forward";

// y lies behind what the scan needs.
std::size_t scan_workspace(const SsdScanDims& dims, std::size_t element_size) {
  return (ssd_scan_forward_workspace(dims, element_size) + 15) / 16 * 16;
}

template <class T>
void scan_then_norm(const SsdScanDims& dims, SsdScanForward<T> scan, const SsdScanNorm<T>& norm, cudaStream_t stream,
                    Method method) {
  if (scan.y == nullptr) {
    scan.y = reinterpret_cast<T*>(static_cast<unsigned char*>(scan.workspace) + scan_workspace(dims, sizeof(T)));
  }
  ssd_scan_forward(dims, scan, stream, method);
  const std::int64_t width = dims.heads * dims.head_dim;
  gated_rms_norm_forward({.rows = dims.batch * dims.seq_len,
                          .width = width,
                          .group_size = width / dims.groups,
                          .row_stride = width,
                          .gate_stride = dims.z_stride},
                         GatedRmsNormForward<T>{.hidden_states = scan.y,
                                                .gate = norm.z,
                                                .weight = norm.weight,
                                                .eps = norm.eps,
                                                .out = norm.out,
                                                .rstd = norm.rstd},
                         stream, method);
}

}  // namespace

template <class T>
void ssd_scan_normed_forward(const SsdScanDims& dims, const SsdScanForward<T>& scan, const SsdScanNorm<T>& norm,
                             cudaStream_t stream, Method method, std::size_t shared_memory) {
  ssd_scan::check_dims(kName, dims);
  require(scan.z == nullptr && scan.ungated_y == nullptr, kName,
          ": scan.z or scan.ungated_y is given; want norm.z alone");
  require(scan.varlen_states == nullptr, kName, ": scan.varlen_states is given; want null");
  require(norm.eps >= 0.0f && norm.eps < HUGE_VALF, kName, ": eps = ", norm.eps, "; want finite and >= 0");
  require(scan.dt_min <= scan.dt_max, kName, ": dt_min = ", scan.dt_min, ", dt_max = ", scan.dt_max,
          "; want dt_min <= dt_max");
  if (dims.batch == 0) return;
  require(scan.A && scan.final_state, kName, ": A or final_state is null; want a pointer");
  require(dims.seq_len == 0 || (scan.x && scan.dt && scan.B && scan.C && norm.z && norm.weight && norm.out), kName,
          ": x, dt, B, C, z, weight or out is null; want a pointer");
  require(scan.workspace && reinterpret_cast<std::uintptr_t>(scan.workspace) % 16 == 0, kName,
          ": workspace is null or not 16-byte aligned");
  bool aligned = true;
  for (const void* p :
       {static_cast<const void*>(scan.x), static_cast<const void*>(scan.B), static_cast<const void*>(scan.C),
        static_cast<const void*>(scan.y), static_cast<const void*>(scan.final_state), scan.initial_state.data,
        static_cast<const void*>(norm.z), static_cast<const void*>(norm.weight), static_cast<const void*>(norm.out)}) {
    aligned = aligned && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
  }
  const ssd_scan::Plan plan = ssd_scan::plan_normed(dims, sizeof(T), aligned, method, shared_memory);
  if (plan.naive) return scan_then_norm(dims, scan, norm, stream, method);
  require(plan.blocks <= INT32_MAX, kName, ": ", plan.blocks, " chunks in all groups; want at most 2^31 - 1");
  ssd_scan::launch_chunked(plan, dims, scan, &norm, stream);
}

template void ssd_scan_normed_forward(const SsdScanDims&, const SsdScanForward<float>&, const SsdScanNorm<float>&,
                                      cudaStream_t, Method, std::size_t);
template void ssd_scan_normed_forward(const SsdScanDims&, const SsdScanForward<__nv_bfloat16>&,
                                      const SsdScanNorm<__nv_bfloat16>&, cudaStream_t, Method, std::size_t);

std::size_t ssd_scan_normed_workspace(const SsdScanDims& dims, std::size_t element_size, std::size_t shared_memory) {
  ssd_scan::check_dims("ssd_scan_normed_workspace", dims);
  const ssd_scan::Plan plan = ssd_scan::plan_normed(dims, element_size, true, Method::automatic, shared_memory);
  const std::size_t y = static_cast<std::size_t>(dims.batch * dims.seq_len * dims.heads * dims.head_dim) * element_size;
  return std::max(plan.workspace_bytes(element_size), scan_workspace(dims, element_size) + y);
}

const char* ssd_scan_normed_variant(const SsdScanDims& dims, std::size_t element_size, Method method,
                                    std::size_t shared_memory) {
  ssd_scan::check_dims("ssd_scan_normed_variant", dims);
  return ssd_scan::plan_normed(dims, element_size, true, method, shared_memory).naive ? "scan_then_norm"
                                                                                      : "chunked_normed";
}

}  // namespace assay::gpu
