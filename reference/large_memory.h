// Memory of tensors and packed operands. Where it is large it comes in huge pages: a fresh MiB then costs a third of the time of
// 256 page faults, and a product's strided reads stay within fewer translations.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <memory>
#include <new>

namespace assay::reference {

constexpr std::size_t kHugePage = std::size_t{1} << 21, kCacheLine = 64;

inline bool is_large(std::size_t bytes) { return bytes >= 3 * kHugePage / 2; }  // filled up to whole huge pages: by a third at most
inline std::align_val_t alignment_of(std::size_t bytes) { return std::align_val_t(is_large(bytes) ? kHugePage : kCacheLine); }

// Uninitialized, on a cache line. Throws std::bad_alloc.
inline void* allocate_memory(std::size_t bytes) {
  if (!is_large(bytes)) return ::operator new(bytes, alignment_of(bytes));
  const std::size_t filled_up = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* memory = ::operator new(filled_up, alignment_of(bytes));
#ifdef MADV_HUGEPAGE
  ::madvise(memory, filled_up, MADV_HUGEPAGE);  // a wish: small pages do, too
#endif
  return memory;
}
inline void free_memory(void* memory, std::size_t bytes) { ::operator delete(memory, alignment_of(bytes)); }

struct FreeMemory {
  std::size_t bytes = 0;
  void operator()(void* memory) const { free_memory(memory, bytes); }
};
template <class T>
using Buffer = std::unique_ptr<T[], FreeMemory>;
// `size` elements, uninitialized, on a cache line: no load straddles two.
template <class T>
Buffer<T> buffer(std::ptrdiff_t size) {
  const std::size_t bytes = sizeof(T) * static_cast<std::size_t>(size);
  return Buffer<T>(static_cast<T*>(allocate_memory(bytes)), FreeMemory{bytes});
}

}  // namespace assay::reference
