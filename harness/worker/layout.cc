#include "harness/worker/layout.h"

namespace assay::harness {

Layout::Layout(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides, std::size_t element_bytes)
    : element_bytes_(element_bytes),
      run_bytes_(element_bytes),
      compact_bytes_(element_bytes),
      storage_bytes_(element_bytes) {
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const auto extent = static_cast<std::size_t>(shape[axis]);
    compact_bytes_ *= extent;
    if (extent == 1) continue;
    outer_.push_back({extent, static_cast<std::size_t>(strides[axis]) * element_bytes});
    storage_bytes_ += (extent - 1) * outer_.back().stride_bytes;
  }
  if (compact_bytes_ == 0) storage_bytes_ = 0;
  while (!outer_.empty() && outer_.back().stride_bytes == run_bytes_) {  // an axis that continues the run joins it
    run_bytes_ *= outer_.back().extent;
    outer_.pop_back();
  }
}

void Layout::scatter(const std::byte* compact, std::byte* storage) const {
  for_each_run([&](const Run& run) { std::memcpy(storage + run.storage, compact + run.compact, run.bytes); });
}

void Layout::gather(const std::byte* storage, std::byte* compact) const {
  for_each_run([&](const Run& run) { std::memcpy(compact + run.compact, storage + run.storage, run.bytes); });
}

}  // namespace assay::harness
