#include "cuda/simt/exec/barrier.h"

#include <bit>
#include <cstring>

namespace simt {
namespace {

bool same_site(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

void open(Block& block, int id, int threads, Reduction reduction, Site site) {
  Barrier& barrier = block.barriers[static_cast<std::size_t>(id)];
  block.open_barriers |= 1u << id;
  barrier.expected = threads;
  barrier.reduction = reduction;
  barrier.value = reduction == Reduction::kAnd ? 1 : 0;
  barrier.site = site;
  ++barrier.phase;
}

void add(Barrier& barrier, int value) {
  switch (barrier.reduction) {
    case Reduction::kNone:
      break;
    case Reduction::kCount:
      barrier.value += value != 0;
      break;
    case Reduction::kAnd:
      barrier.value &= value != 0;
      break;
    case Reduction::kOr:
      barrier.value |= value != 0;
      break;
  }
}

// Wakes all threads that wait, if all that are expected have come.
void complete_if_full(Worker& worker, Block& block, int id) {
  Barrier& barrier = block.barriers[static_cast<std::size_t>(id)];
  const int needed = barrier.expected < 0 ? static_cast<int>(block.live) : barrier.expected;
  if (barrier.arrived < needed) return;
  barrier.arrived = 0;
  block.open_barriers &= ~(1u << id);
  barrier.result = barrier.value;
  ++block.barriers_completed;
  const bool descending = worker.schedule().order == Order::kDescending;
  const std::size_t words = (block.threads + 63) / 64;
  for (std::size_t i = 0; i < words; ++i) {
    const std::size_t word = descending ? words - 1 - i : i;
    std::uint64_t bits = barrier.waiting[word];
    barrier.waiting[word] = 0;
    while (bits != 0) {
      const int bit = descending ? 63 - std::countl_zero(bits) : std::countr_zero(bits);
      bits &= ~(std::uint64_t{1} << bit);
      worker.wake(*block.fibers[word * 64 + static_cast<std::size_t>(bit)]);
    }
  }
}

// A count of whole warps, as many as the block has.
bool possible(const Block& block, int threads) {
  return threads > 0 && threads % 32 == 0 && static_cast<unsigned>(threads) <= (block.threads + 31) / 32 * 32;
}

std::string name(int id) { return id == 0 ? "__syncthreads" : "barrier " + std::to_string(id); }

// Why this arrival is wrong. Kept out of barrier_sync(): building texts there would give every waiting thread a large
// frame.
[[noreturn, gnu::noinline]] void refuse(const Block& block, const Barrier& barrier, int id, int threads, Site site) {
  if (id < 0 || id >= kBarriers) fail("barrier " + std::to_string(id) + ": ids are 0 to 15", site);
  if (barrier.arrived == 0 || barrier.expected == threads) {
    if (threads >= 0 && !possible(block, threads)) {
      fail(name(id) + ": " + std::to_string(threads) + " threads; want a multiple of 32 up to the block's " +
               std::to_string(block.threads),
           site);
    }
    fail("divergent " + name(id) + ": others wait at " + describe(barrier.site), site);
  }
  fail(name(id) + ": for " + std::to_string(threads) + " threads here, for " + std::to_string(barrier.expected) +
           " at " + describe(barrier.site),
       site);
}

void check(const Block& block, const Barrier& barrier, int id, int threads, Reduction reduction, Site site) {
  const bool legal = id >= 0 && id < kBarriers && (threads < 0 || possible(block, threads));
  const bool alike = barrier.arrived == 0 || (barrier.expected == threads && barrier.reduction == reduction &&
                                              (threads >= 0 || same_site(barrier.site, site)));
  if (!legal || !alike) refuse(block, barrier, id, threads, site);
}

}  // namespace

int barrier_sync(int id, int threads, int value, Reduction reduction, Site site) {
  Fiber& fiber = Worker::current_fiber();
  Worker& worker = *fiber.worker;
  Block& block = *fiber.block;
  Barrier& barrier = block.barriers[static_cast<std::size_t>(id) % kBarriers];
  check(block, barrier, id, threads, reduction, site);
  if (barrier.arrived == 0) open(block, id, threads, reduction, site);
  void* token = barrier.token();
  hb_release(token);
  add(barrier, value);
  ++barrier.arrived;
  barrier.waiting[fiber.linear / 64] |= std::uint64_t{1} << (fiber.linear % 64);
  complete_if_full(worker, block, id);
  worker.suspend(id == 0 ? "__syncthreads" : "bar.sync", site);
  hb_acquire(token);
  if (counting_enabled) ++fiber.log->segment;
  return barrier.result;
}

void barrier_arrive(int id, int threads, Site site) {
  Fiber& fiber = Worker::current_fiber();
  Block& block = *fiber.block;
  Barrier& barrier = block.barriers[static_cast<std::size_t>(id) % kBarriers];
  check(block, barrier, id, threads, Reduction::kNone, site);
  if (barrier.arrived == 0) open(block, id, threads, Reduction::kNone, site);
  hb_release(barrier.token());
  ++barrier.arrived;
  complete_if_full(*fiber.worker, block, id);
}

void thread_left_barriers(Worker& worker, Block& block) {
  for (unsigned open = block.open_barriers; open != 0; open &= open - 1) {
    complete_if_full(worker, block, std::countr_zero(open));
  }
}

}  // namespace simt
