// Red zones: bytes beside every buffer that nobody may touch. ASan reports an access at once; without it the zone reads
// as NaN and a write is found by find_damage().
#pragma once

#include <cstddef>

#include "cuda/simt/exec/sanitizer.h"

namespace simt {

// Every 16-bit word is 0xFFFD, wherever the zone starts: NaN as bf16, half, float and double, and unlike poison.
void fill_guard(unsigned char* zone, std::size_t bytes);
// The first byte that was written to, or null.
const unsigned char* find_damage(const unsigned char* zone, std::size_t bytes);

}  // namespace simt
