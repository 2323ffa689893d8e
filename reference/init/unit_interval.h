// Random words as numbers between 0 and 1: PyTorch's CPU generator fills [0, 1), curand (0, 1].
#pragma once

#include <cstdint>

namespace assay::reference {

inline float cpu_unit_float(std::uint32_t word) { return static_cast<float>(word & 0xFFFFFFu) * 0x1p-24f; }
inline double cpu_unit_double(std::uint64_t word) {
  return static_cast<double>(word & ((std::uint64_t{1} << 53) - 1)) * 0x1p-53;
}
// PyTorch before 2.15 drew bfloat16 tensors from 8 bits.
inline float cpu_unit_8bit(std::uint32_t word) { return static_cast<float>(word & 0xFFu) * 0x1p-8f; }

inline float cuda_unit_float(std::uint32_t word) { return static_cast<float>(word) * 0x1p-32f + 0x1p-33f; }
inline double cuda_unit_double(std::uint32_t low, std::uint32_t high) {
  return static_cast<double>(low ^ (std::uint64_t{high} << 21)) * 0x1p-53 + 0x1p-54;
}

}  // namespace assay::reference
