// The kernel-side entry points that need no file of their own.
#include "cuda/simt/exec/thread.h"

#include "cuda/simt/exec/worker.h"

const int warpSize = 32;

namespace simt {

void fail(const std::string& message, Site site) {
  if (current_thread == nullptr) throw Error(message + ", outside of a kernel");
  Worker::current_fiber().worker->fail(site.line == 0 ? message : message + "\n  at " + describe(site));
}

void spin_yield(Site site) { Worker::current_fiber().worker->spin(site); }

void* static_shared(const void* tag, std::size_t bytes, std::size_t align, Site site) {
  std::string error;
  void* object = Worker::current_fiber().block->shared.static_object(tag, bytes, align, error);
  if (object == nullptr) fail(error, site);
  return object;
}

void* dynamic_shared() { return Worker::current_fiber().block->shared.dynamic_bytes(); }

void* carve_shared(unsigned sequence, std::size_t logical_end, std::size_t bytes, std::size_t align, Site site) {
  std::string error;
  void* piece = Worker::current_fiber().block->shared.carve(sequence, logical_end, bytes, align, error);
  if (piece == nullptr) fail(error, site);
  return piece;
}

std::size_t shared_offset(const void* p) {
  const SharedArena& arena = Worker::current_fiber().block->shared;
  return arena.contains(p) ? arena.offset(p) : kNotShared;
}

}  // namespace simt
