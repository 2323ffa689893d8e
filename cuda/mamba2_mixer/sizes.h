// Private to the family: what forward and backward share of the sizes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/common/check.h"
#include "cuda/mamba2_mixer/mamba2_mixer.h"
#include "cuda/ssd_scan/ssd_scan.h"

namespace assay::gpu::mamba2_mixer {

inline std::size_t bytes_of(std::int64_t elements, std::size_t element_size) {
  return static_cast<std::size_t>(elements) * element_size;
}

inline void check_dims(const char* function, const Mamba2MixerDims& d) {
  constexpr std::int64_t kMax = 1 << 20;  // the products below stay far below 2^63
  require_size(function, "batch", d.batch, 0, kMax);
  require_size(function, "seq_len", d.seq_len, 0, 1 << 30);
  require_size(function, "hidden_size", d.hidden_size, 1, kMax);
  require_size(function, "heads", d.heads, 1, kMax);
  require_size(function, "head_dim", d.head_dim, 1, kMax);
  require_size(function, "state_size", d.state_size, 1, kMax);
  require_size(function, "taps", d.taps, 1, 1 << 16);
  require_groups(function, d.groups, d.heads);
}

inline SsdScanDims scan_dims(const Mamba2MixerDims& d) {
  return {.batch = d.batch,
          .seq_len = d.seq_len,
          .heads = d.heads,
          .head_dim = d.head_dim,
          .groups = d.groups,
          .state_size = d.state_size,
          .x_stride = d.conv_channels(),
          .dt_stride = d.projected(),
          .B_stride = d.conv_channels(),
          .C_stride = d.conv_channels(),
          .z_stride = d.inner()};
}

// The place of `size` bytes more in a workspace that holds `bytes` so far.
inline std::size_t place(std::size_t& bytes, std::size_t size) {
  constexpr std::size_t kAlignment = 256;
  const std::size_t at = bytes;
  bytes += (size + kAlignment - 1) / kAlignment * kAlignment;
  return at;
}

}  // namespace assay::gpu::mamba2_mixer
