#include "cuda/simt/exec/guard.h"

#include <cstdint>

// Looks at memory that is poisoned for everybody else.
#if defined(__clang__)
#define SIMT_UNWATCHED __attribute__((no_sanitize("address", "memory")))
#else
#define SIMT_UNWATCHED __attribute__((no_sanitize("address")))
#endif

namespace simt {
namespace {
SIMT_UNWATCHED inline unsigned char expected(const unsigned char* p) {
  return reinterpret_cast<std::uintptr_t>(p) & 1 ? 0xFF : 0xFD;
}
}  // namespace

SIMT_UNWATCHED void fill_guard(unsigned char* zone, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) zone[i] = expected(zone + i);
  mark_uninitialised(zone, bytes);
  forbid_access(zone, bytes);
}

SIMT_UNWATCHED const unsigned char* find_damage(const unsigned char* zone, std::size_t bytes) {
  const unsigned char* p = zone;
  const unsigned char* end = zone + bytes;
  constexpr std::uint64_t kPattern = 0xFFFDFFFDFFFDFFFDull;
  for (; p < end && reinterpret_cast<std::uintptr_t>(p) % 8 != 0; ++p) {
    if (*p != expected(p)) return p;
  }
  for (; p + 8 <= end; p += 8) {
    if (*reinterpret_cast<const std::uint64_t*>(p) != kPattern) break;
  }
  for (; p < end; ++p) {
    if (*p != expected(p)) return p;
  }
  return nullptr;
}

}  // namespace simt
