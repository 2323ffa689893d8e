#include "cuda/ssd_scan/ssd_scan_backward.h"

#include "cuda/common/check.h"
#include "cuda/ssd_scan/backward_plan.h"

namespace assay::gpu {
namespace ssd_scan {

BackwardPlan plan_backward(const SsdScanDims& d, const SsdScanGradientStrides& s, std::size_t element_size,
                           Method method) {
  const auto vector = static_cast<std::int64_t>(16 / element_size);
  bool chunked = !plan_forward(d, element_size, true, method).naive && d.batch > 0;
  for (const std::int64_t stride : {s.x, s.B, s.C, s.z}) chunked = chunked && stride % vector == 0;
  BackwardPlan plan{.naive = !chunked};
  if (plan.naive) {
    plan.rows = d.batch * d.seq_len;
    plan.states = plan.rows * d.heads * d.head_dim * d.state_size;
    return plan;
  }
  // B, C, H and Gamma, each [chunk or channels, max_state_size], and x, d_y and weights, each a slice wide, lie in
  // 99 KB: the wider the state, the fewer rows. Places in shared memory are constants: what counts is the largest
  // state.
  const bool narrow = d.state_size <= 128;
  plan.chunk = plan.channels = (element_size == 2 ? 64 : 32) / (narrow ? 1 : 2);
  const int slices = (narrow ? 128 : kMaxStateSize) * static_cast<int>(element_size) / kRowBytes;
  plan.chunks = (d.seq_len + plan.chunk - 1) / plan.chunk;
  plan.tiles = d.batch * d.heads * ((d.head_dim + plan.channels - 1) / plan.channels);
  plan.blocks = d.batch * d.groups * plan.chunks;
  plan.rows = d.batch * plan.chunks;
  plan.states = plan.rows * d.heads * d.head_dim * d.state_size;
  const int rows = plan.chunk * kRowBytes;
  plan.states_shared_bytes = static_cast<unsigned>(2 * rows * (slices + 1) + 2 * 4 * plan.chunk + 8);
  plan.shared_bytes =
      static_cast<unsigned>(rows * (4 * slices + 3) + 4 * small_floats(plan.chunk, plan.channels) + plan.chunk + 16);
  return plan;
}

}  // namespace ssd_scan

std::size_t ssd_scan_backward_workspace(const SsdScanDims& dims, const SsdScanGradientStrides& strides,
                                        std::size_t element_size, Method method) {
  ssd_scan::check_dims("ssd_scan_backward_workspace", dims);
  const ssd_scan::BackwardPlan plan = ssd_scan::plan_backward(dims, strides, element_size, method);
  return plan.state_bytes(element_size) + static_cast<std::size_t>(plan.rows * dims.heads * (2 + dims.head_dim)) * 4;
}

const char* ssd_scan_backward_variant(const SsdScanDims& dims, const SsdScanGradientStrides& strides,
                                      std::size_t element_size, Method method) {
  ssd_scan::check_dims("ssd_scan_backward_variant", dims);
  return ssd_scan::plan_backward(dims, strides, element_size, method).naive ? "naive" : "chunked";
}

}  // namespace assay::gpu
