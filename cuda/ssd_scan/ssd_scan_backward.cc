#include "cuda/ssd_scan/ssd_scan_backward.h"

#include "cuda/common/check.h"
#include "cuda/ssd_scan/backward_plan.h"

namespace assay::gpu {
namespace ssd_scan {

BackwardPlan plan_backward(const SsdScanDims& d, const SsdScanGradientStrides&, std::size_t, Method) {
  BackwardPlan plan{.naive = true};
  plan.rows = d.batch * d.seq_len;
  plan.states = plan.rows * d.heads * d.head_dim * d.state_size;
  return plan;
}

}  // namespace ssd_scan

std::size_t ssd_scan_backward_workspace(const SsdScanDims& dims, const SsdScanGradientStrides& strides,
                                        std::size_t element_size, Method method) {
  ssd_scan::check_dims("ssd_scan_backward_workspace", dims);
  const ssd_scan::BackwardPlan plan = ssd_scan::plan_backward(dims, strides, element_size, method);
  return static_cast<std::size_t>(4 * (2 * plan.states + plan.sums(dims)));
}

const char* ssd_scan_backward_variant(const SsdScanDims& dims, const SsdScanGradientStrides& strides,
                                      std::size_t element_size, Method method) {
  ssd_scan::check_dims("ssd_scan_backward_variant", dims);
  return ssd_scan::plan_backward(dims, strides, element_size, method).naive ? "naive" : "chunked";
}

}  // namespace assay::gpu
