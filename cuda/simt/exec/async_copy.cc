#include "cuda/simt/exec/async_copy.h"

#include "cuda/simt/exec/worker.h"

namespace simt {
namespace {

CopyQueue& own_queue() {
  std::unique_ptr<CopyQueue>& queue = Worker::current_fiber().copies;
  if (queue == nullptr) queue = std::make_unique<CopyQueue>();
  return *queue;
}

void move_bytes(const PendingCopy& copy) {
  report_write(copy.to, copy.bytes);
  if (copy.source_bytes > 0) {
    report_read(copy.from, copy.source_bytes);
    raw_copy(copy.to, copy.from, copy.source_bytes);
  }
  if (copy.source_bytes < copy.bytes) {
    raw_fill(static_cast<unsigned char*>(copy.to) + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
  }
}

// The thread may now read what the copy wrote.
void finish(const PendingCopy& copy) {
  if (!copy.landed) {
    move_bytes(copy);
    return;
  }
  report_write(copy.to, copy.bytes);  // it might as well have landed now
#if defined(SIMT_MSAN)                // it landed early, but was not to be read before this
  __msan_copy_shadow(copy.to, copy.from, copy.source_bytes);
  mark_initialised(static_cast<unsigned char*>(copy.to) + copy.source_bytes, copy.bytes - copy.source_bytes);
#endif
}

bool lands_at_once(Worker& worker) {
  switch (worker.schedule().landing) {
    case Landing::kEarly:
      return true;
    case Landing::kLate:
      return false;
    case Landing::kRandom:
      return worker.random().coin();
  }
  return false;
}

// The refusals are kept apart: building their texts would cost every copy.
[[noreturn, gnu::noinline]] void refuse(unsigned bytes, const std::string& what, Site site) {
  fail("cp.async of " + std::to_string(bytes) + " bytes: " + what, site);
}

void check(const void* to, const void* from, unsigned bytes, unsigned source_bytes, Site site) {
  const auto misaligned = [bytes](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % bytes != 0; };
  if (source_bytes > bytes) refuse(bytes, std::to_string(source_bytes) + " source bytes", site);
  if (shared_offset(to) == kNotShared) refuse(bytes, "the destination is not shared memory", site);
  if (misaligned(to)) refuse(bytes, "the destination is misaligned", site);
  if (source_bytes > 0 && misaligned(from)) refuse(bytes, "the source is misaligned", site);
}

void land_first(CopyQueue& queue, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) finish(queue.copies[i]);
  queue.copies.erase(queue.copies.begin(), queue.copies.begin() + static_cast<std::ptrdiff_t>(count));
}

}  // namespace

void copy_async(void* to, const void* from, unsigned bytes, unsigned source_bytes, Site site) {
  check(to, from, bytes, source_bytes, site);
  if (counting_enabled) {
    log_access(place_of(site), to, bytes, true);
    if (source_bytes > 0) log_access(place_of(site), from, source_bytes, false);
  }
  Fiber& fiber = Worker::current_fiber();
  PendingCopy copy{to, from, bytes, source_bytes, lands_at_once(*fiber.worker), site};
  if (copy.landed) {
    move_bytes(copy);
    mark_uninitialised(to, bytes);
  } else {
    report_write(to, bytes);
    if (source_bytes > 0) report_read(from, source_bytes);
    poison(to, bytes);
  }
  own_queue().copies.push_back(copy);
}

void copy_async_commit() {
  CopyQueue& queue = own_queue();
  queue.group_end.push_back(queue.copies.size());
}

void copy_async_wait(unsigned groups_left) {
  CopyQueue& queue = own_queue();
  if (queue.group_end.size() <= groups_left) return;
  const std::size_t groups = queue.group_end.size() - groups_left;
  const std::size_t done = queue.group_end[groups - 1];
  land_first(queue, done);
  queue.group_end.erase(queue.group_end.begin(), queue.group_end.begin() + static_cast<std::ptrdiff_t>(groups));
  for (std::size_t& end : queue.group_end) end -= done;
}

void copy_async_wait_all() {
  CopyQueue& queue = own_queue();
  land_first(queue, queue.copies.size());
  queue.group_end.clear();
}

}  // namespace simt
