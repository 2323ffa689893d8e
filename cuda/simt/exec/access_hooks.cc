// Sees the plain loads and stores of kernels that are compiled with -fsanitize=thread but linked without its runtime:
// the compiler calls these functions before every access. Only the target assay_simt_counting contains them.
#include <cstddef>
#include <cstdint>

#include "cuda/simt/exec/counting.h"

namespace simt {
namespace {

[[maybe_unused]] const bool kInstrumented = counting_instrumented = true;

inline void access(const void* address, std::size_t bytes, bool write, void* return_address) {
  if (counting_enabled) log_access(reinterpret_cast<std::uintptr_t>(return_address), address, bytes, write);
}

}  // namespace
}  // namespace simt

#define SIMT_ACCESS(bytes)                                                                                  \
  void __tsan_read##bytes(void* p) { simt::access(p, bytes, false, __builtin_return_address(0)); }          \
  void __tsan_write##bytes(void* p) { simt::access(p, bytes, true, __builtin_return_address(0)); }          \
  void __tsan_volatile_read##bytes(void* p) { simt::access(p, bytes, false, __builtin_return_address(0)); } \
  void __tsan_volatile_write##bytes(void* p) { simt::access(p, bytes, true, __builtin_return_address(0)); }

// Atomics do their work and are counted by the kernel-side wrappers. Memory orders: sequential consistency serves all.
#define SIMT_ATOMIC_UPDATE(bits, Word, name)                                         \
  Word __tsan_atomic##bits##_##name(volatile void* p, Word value, int) {             \
    return __atomic_##name(static_cast<volatile Word*>(p), value, __ATOMIC_SEQ_CST); \
  }
#define SIMT_ATOMIC(bits, Word)                                                                                      \
  Word __tsan_atomic##bits##_load(const volatile void* p, int) {                                                     \
    return __atomic_load_n(static_cast<const volatile Word*>(p), __ATOMIC_SEQ_CST);                                  \
  }                                                                                                                  \
  void __tsan_atomic##bits##_store(volatile void* p, Word value, int) {                                              \
    __atomic_store_n(static_cast<volatile Word*>(p), value, __ATOMIC_SEQ_CST);                                       \
  }                                                                                                                  \
  Word __tsan_atomic##bits##_exchange(volatile void* p, Word value, int) {                                           \
    return __atomic_exchange_n(static_cast<volatile Word*>(p), value, __ATOMIC_SEQ_CST);                             \
  }                                                                                                                  \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile void* p, void* expected, Word desired, int, int) {      \
    return __atomic_compare_exchange_n(static_cast<volatile Word*>(p), static_cast<Word*>(expected), desired, false, \
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                          \
  }                                                                                                                  \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile void* p, void* expected, Word desired, int, int) {        \
    return __tsan_atomic##bits##_compare_exchange_strong(p, expected, desired, 0, 0);                                \
  }                                                                                                                  \
  SIMT_ATOMIC_UPDATE(bits, Word, fetch_add)                                                                          \
  SIMT_ATOMIC_UPDATE(bits, Word, fetch_sub)                                                                          \
  SIMT_ATOMIC_UPDATE(bits, Word, fetch_and)                                                                          \
  SIMT_ATOMIC_UPDATE(bits, Word, fetch_or)                                                                           \
  SIMT_ATOMIC_UPDATE(bits, Word, fetch_xor)

extern "C" {
void __tsan_init() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_func_entry(void* return_address) {
  if (simt::ThreadLog* log = simt::current_log(); log != nullptr) {
    log->call_path = log->call_path * 0x100000001B3ull + reinterpret_cast<std::uintptr_t>(return_address);
    log->call_stack.push_back(log->call_path);
  }
}
void __tsan_func_exit() {
  if (simt::ThreadLog* log = simt::current_log(); log != nullptr && !log->call_stack.empty()) {
    log->call_stack.pop_back();
    log->call_path = log->call_stack.empty() ? 0 : log->call_stack.back();
  }
}
void __tsan_read_range(void* p, unsigned long bytes) { simt::access(p, bytes, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, unsigned long bytes) { simt::access(p, bytes, true, __builtin_return_address(0)); }
SIMT_ACCESS(1)
SIMT_ACCESS(2)
SIMT_ACCESS(4)
SIMT_ACCESS(8)
SIMT_ACCESS(16)
SIMT_ATOMIC(8, unsigned char)
SIMT_ATOMIC(16, unsigned short)
SIMT_ATOMIC(32, unsigned)
SIMT_ATOMIC(64, unsigned long)
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
}
