// Checks at the border of every launcher. Host only.
#pragma once

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

}  // namespace assay::gpu
