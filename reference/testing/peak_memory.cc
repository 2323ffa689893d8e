#include "reference/testing/peak_memory.h"

#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

// glibc's own, under the names that stay reachable once this program has its own malloc.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);
}

namespace {

std::atomic<std::size_t> now{0}, most{0};

void* counted(void* p) {
  if (!p) return p;
  const std::size_t size = malloc_usable_size(p), total = now.fetch_add(size) + size;
  std::size_t seen = most.load();
  while (seen < total && !most.compare_exchange_weak(seen, total)) {
  }
  return p;
}
void uncount(void* p) {
  if (p) now.fetch_sub(malloc_usable_size(p));
}

}  // namespace

extern "C" {
void* malloc(std::size_t size) { return counted(__libc_malloc(size)); }
void* calloc(std::size_t count, std::size_t size) { return counted(__libc_calloc(count, size)); }
void* realloc(void* p, std::size_t size) {
  uncount(p);
  void* moved = __libc_realloc(p, size);
  if (!moved && size > 0) counted(p);  // it failed, and p stays
  return counted(moved);
}
void free(void* p) {
  uncount(p);
  __libc_free(p);
}
void* memalign(std::size_t alignment, std::size_t size) { return counted(__libc_memalign(alignment, size)); }
void* aligned_alloc(std::size_t alignment, std::size_t size) { return counted(__libc_memalign(alignment, size)); }
int posix_memalign(void** p, std::size_t alignment, std::size_t size) {
  void* fresh = counted(__libc_memalign(alignment, size));
  if (!fresh) return ENOMEM;
  *p = fresh;
  return 0;
}
}

namespace assay::reference::testing {

std::size_t allocated_bytes() { return now; }
std::size_t most_allocated_bytes() { return most; }
void reset_most_allocated_bytes() { most = now.load(); }

}  // namespace assay::reference::testing
