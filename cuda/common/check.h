// Checks at the border of every launcher. Host only.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>

namespace assay::gpu {

// require(rows >= 0, "rms_norm_forward: rows = ", rows, "; want >= 0"): throws std::invalid_argument with that text.
template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (condition) return;
  std::ostringstream text;
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}

// Likewise for what the launchers of the Mamba-2 family check in common.
inline void require_size(const char* function, const char* name, std::int64_t found, std::int64_t least,
                         std::int64_t most) {
  require(found >= least && found <= most, function, ": ", name, " = ", found, "; want ", least, " .. ", most);
}
inline void require_stride(const char* function, const char* name, std::int64_t found, std::int64_t least) {
  require(found >= least, function, ": ", name, " = ", found, "; want >= ", least);
}
inline void require_groups(const char* function, std::int64_t groups, std::int64_t heads) {
  require(groups >= 1 && heads % groups == 0, function, ": groups = ", groups, "; want a divisor of heads = ", heads);
}
// The strides of x, dt, B, C and z, of SsdScanDims or SsmStateUpdateDims.
template <class Dims>
void require_scan_strides(const char* function, const Dims& d) {
  require_stride(function, "x_stride", d.x_stride, d.heads * d.head_dim);
  require_stride(function, "dt_stride", d.dt_stride, d.heads);
  require_stride(function, "B_stride", d.B_stride, d.groups * d.state_size);
  require_stride(function, "C_stride", d.C_stride, d.groups * d.state_size);
  require_stride(function, "z_stride", d.z_stride, d.heads * d.head_dim);
}

}  // namespace assay::gpu
