#include "cuda/simt/exec/collective.h"

#include <bit>
#include <cstring>

namespace simt {
namespace {

// Takes the room off the list, runs the operation, and wakes its lanes.
void complete(Worker& worker, Warp& warp, Room& open_room) {
  const Room room = open_room;
  open_room = warp.rooms[static_cast<std::size_t>(--warp.open_rooms)];
  if (counting_enabled) ++Worker::current_fiber().log->warp_operations;
  if (room.operation->run != nullptr) room.operation->run(warp.operands.data(), room.arrived);
  const bool descending = worker.schedule().order == Order::kDescending;
  for (unsigned lanes = room.arrived; lanes != 0;) {
    const int lane = descending ? 31 - std::countl_zero(lanes) : std::countr_zero(lanes);
    lanes &= ~(1u << lane);
    worker.wake(*warp.lanes[static_cast<std::size_t>(lane)]);
  }
}

// The refusals are kept out of collective(): building texts there would give every waiting lane a large frame.
[[noreturn, gnu::noinline]] void mismatch(const Collective& operation, unsigned mask, Site site, const Room& room) {
  const bool same = &operation == room.operation && mask == room.mask;
  fail((same ? "divergent " : "mismatched ") + std::string(operation.name) + " mask " + hex(mask) + ": lanes " +
           hex(room.arrived) + " wait in " + room.operation->name + " mask " + hex(room.mask) + " at " +
           describe(room.site),
       site);
}

[[noreturn, gnu::noinline]] void not_in_mask(const Collective& operation, unsigned mask, Site site) {
  fail(std::string(operation.name) + ": the calling lane is not in its mask " + hex(mask), site);
}

[[noreturn, gnu::noinline]] void exits_too_early(Worker& worker, const Room& room, unsigned lane) {
  worker.fail(std::string(room.operation->name) + ": lane " + std::to_string(lane) + " exits while others wait at " +
              describe(room.site));
}

[[noreturn, gnu::noinline]] void lanes_missing(const Collective& operation, unsigned live, Site site) {
  fail(std::string(operation.name) + ": needs all 32 lanes; live are " + hex(live), site);
}

bool same_site(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

}  // namespace

void collective(const Collective& operation, unsigned mask, void* operands, Site site) {
  Fiber& fiber = Worker::current_fiber();
  Worker& worker = *fiber.worker;
  Warp& warp = *fiber.warp;
  const unsigned bit = 1u << fiber.lane;
  if ((mask & bit) == 0) not_in_mask(operation, mask, site);
  if (operation.whole_warp && (mask & ~warp.live) != 0) lanes_missing(operation, warp.live, site);
  Room* room = nullptr;
  for (int i = 0; i < warp.open_rooms && room == nullptr; ++i) {
    Room& open = warp.rooms[static_cast<std::size_t>(i)];
    if ((open.mask & mask) == 0) continue;
    if (open.mask != mask || open.operation != &operation || !same_site(open.site, site)) {
      mismatch(operation, mask, site, open);
    }
    room = &open;
  }
  if (room == nullptr) {
    room = &warp.rooms[static_cast<std::size_t>(warp.open_rooms++)];
    *room = {&operation, mask, 0, site, &warp.tokens[warp.opened++ % warp.tokens.size()]};
  }
  room->arrived |= bit;
  warp.operands[fiber.lane] = operands;
  void* token = room->token;
  if (operation.orders_memory) hb_release(token);
  if (room->arrived == (mask & warp.live)) complete(worker, warp, *room);
  worker.suspend(operation.name, site, mask);
  if (counting_enabled) ++fiber.log->segment;
  if (operation.orders_memory) hb_acquire(token);
}

void lane_exited(Worker& worker, Warp& warp, unsigned lane) {
  for (int i = 0; i < warp.open_rooms; ++i) {
    Room& room = warp.rooms[static_cast<std::size_t>(i)];
    if ((room.mask >> lane & 1) == 0) continue;
    if (room.operation->whole_warp) exits_too_early(worker, room, lane);
    if (room.arrived == (room.mask & warp.live)) {
      complete(worker, warp, room);
      return;
    }
  }
}

}  // namespace simt
