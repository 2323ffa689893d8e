// Which sanitizer this file is compiled for, and the few annotations that fibers and poisoned memory need.
//
// The executor itself is never compiled with -fsanitize=thread: only kernels are, and the executor tells
// ThreadSanitizer what happens (SIMT_TSAN=1 is defined for it). It must therefore touch memory that kernels see
// through raw_copy and raw_fill alone, since libc's memcpy and memset are intercepted.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) && !defined(SIMT_TSAN) && !defined(SIMT_COUNTING)
#define SIMT_TSAN 1
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(SIMT_ASAN)
#define SIMT_ASAN 1
#endif
#if __has_feature(thread_sanitizer) && !defined(SIMT_TSAN) && !defined(SIMT_COUNTING)
#define SIMT_TSAN 1
#endif
#if __has_feature(memory_sanitizer)
#define SIMT_MSAN 1
#endif
#endif

#if defined(SIMT_ASAN)
#include <sanitizer/asan_interface.h>
#endif
#if defined(SIMT_MSAN)
#include <sanitizer/msan_interface.h>
#endif
#if defined(SIMT_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" {
void __tsan_read_range(void*, unsigned long);
void __tsan_write_range(void*, unsigned long);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
#define SIMT_NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#else
#define SIMT_NO_TSAN
#endif

namespace simt {

// Everything a thread did before release(token) happens before what follows another's acquire(token).
inline void hb_release([[maybe_unused]] void* token) {
#if defined(SIMT_TSAN)
  __tsan_release(token);
#endif
}
inline void hb_acquire([[maybe_unused]] void* token) {
#if defined(SIMT_TSAN)
  __tsan_acquire(token);
#endif
}

// An access that an emulated instruction makes on behalf of the calling thread.
inline void report_read([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_TSAN)
  __tsan_read_range(const_cast<void*>(p), bytes);
#elif defined(SIMT_ASAN)
  if (void* bad = __asan_region_is_poisoned(const_cast<void*>(p), bytes)) (void)*static_cast<volatile char*>(bad);
#endif
}
inline void report_write([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_TSAN)
  __tsan_write_range(p, bytes);
#elif defined(SIMT_ASAN)
  if (void* bad = __asan_region_is_poisoned(p, bytes)) *static_cast<volatile char*>(bad) = 0;
#endif
}

// Addressable or not (ASan).
inline void allow_access([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_ASAN)
  __asan_unpoison_memory_region(p, bytes);
#endif
}
inline void forbid_access([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_ASAN)
  __asan_poison_memory_region(p, bytes);
#endif
}

// Initialised or not (MSan).
inline void mark_initialised([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_MSAN)
  __msan_unpoison(p, bytes);
#endif
}
inline void mark_uninitialised([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_MSAN)
  __msan_allocated_memory(p, bytes);  // with an origin, so that a report can name the lines that passed it on
#endif
}

// Plain byte moves that no sanitizer intercepts. Shadow of initialisation travels along.
inline void raw_fill(void* to, int byte, std::size_t bytes) {
  mark_initialised(to, bytes);
  asm volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(byte) : "memory");
}
inline void raw_copy(void* to, const void* from, std::size_t bytes) {
#if defined(SIMT_MSAN)
  __msan_copy_shadow(to, from, bytes);
#endif
  if (bytes == 16) {
    asm volatile("vmovdqu (%1), %%xmm0\n\tvmovdqu %%xmm0, (%0)" ::"r"(to), "r"(from) : "xmm0", "memory");
    return;
  }
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes)::"memory");
}

// What was never written reads as NaN in every floating type, and as uninitialised under MSan.
inline void poison(void* p, std::size_t bytes) {
  raw_fill(p, 0xFF, bytes);
  mark_uninitialised(p, bytes);
}

}  // namespace simt
