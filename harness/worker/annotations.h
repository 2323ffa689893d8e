// What a sanitizer is told about memory that it sees as merely allocated. They do nothing in other builds.
#pragma once

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#define ASSAY_MSAN 1
#endif
#if __has_feature(address_sanitizer)
#define ASSAY_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ASSAY_ASAN 1
#endif

#ifdef ASSAY_MSAN
#include <sanitizer/msan_interface.h>
#endif
#ifdef ASSAY_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace assay::harness {

// MemorySanitizer: the content is (not) a value that somebody computed. Copies carry this along.
inline void mark_undefined([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef ASSAY_MSAN
  __msan_poison(memory, bytes);
#endif
}
inline void mark_defined([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef ASSAY_MSAN
  __msan_unpoison(memory, bytes);
#endif
}
// MemorySanitizer: reports the memory, and where its content came from, unless somebody computed it.
#ifdef ASSAY_MSAN
constexpr bool kTracksUndefined = true;
#else
constexpr bool kTracksUndefined = false;
#endif
inline void require_defined([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef ASSAY_MSAN
  __msan_check_mem_is_initialized(memory, bytes);
#endif
}

// AddressSanitizer: any access from now on is (not) an error.
inline void forbid([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef ASSAY_ASAN
  __asan_poison_memory_region(memory, bytes);
#endif
}
inline void permit([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef ASSAY_ASAN
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

}  // namespace assay::harness
