#include "cuda/simt/exec/shared_arena.h"

#include <sys/mman.h>

#include <algorithm>

#include "cuda/simt/exec/guard.h"
#include "cuda/simt/exec/sanitizer.h"
#include "cuda/simt/executor.h"

namespace simt {
namespace {

unsigned char* map_at(void* where, std::size_t bytes) {
  const int fixed = where == nullptr ? 0 : MAP_FIXED;
  void* memory = mmap(where, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
  if (memory == MAP_FAILED) throw Error("executor: no memory for a block's shared memory");
  return static_cast<unsigned char*>(memory);
}

[[maybe_unused]] constexpr std::size_t kPage = 4096;

std::size_t align_up(std::size_t value, std::size_t align) { return (value + align - 1) / align * align; }

}  // namespace

SharedArena::SharedArena() : memory_(map_at(nullptr, kArenaBytes)) {
  pieces_.reserve(64);
  zones_.reserve(130);
}

SharedArena::~SharedArena() {
  allow_access(memory_, kArenaBytes);
  munmap(memory_, kArenaBytes);
}

void SharedArena::reset(std::size_t dynamic_bytes, std::size_t limit, bool as_on_device) {
#if defined(SIMT_TSAN)
  // Nothing orders this block's threads after the last one's: a new mapping makes TSan forget what those did here.
  // Under "ignore" the mapping itself counts as no access.
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  map_at(memory_, align_up(static_top_ + kZone, kPage));
  map_at(memory_ + kDynamicStart, align_up(dynamic_top_ + kZone - kDynamicStart, kPage));
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
#endif
  pieces_.clear();
  zones_.clear();
  zone_ = as_on_device ? 0 : kZone;
  forbid_access(memory_, kArenaBytes);
  static_top_ = 0;
  dynamic_top_ = kDynamicStart;
  static_bytes_ = 0;
  dynamic_size_ = dynamic_bytes;
  limit_ = limit;
}

// [zone][piece][zone]: two pieces in a row share the zone between them. A piece is as misaligned as on the device, where
// it begins at `logical_start`.
void* SharedArena::place(std::size_t& top, std::size_t end, Piece piece, std::size_t align, std::size_t logical_start) {
  const std::size_t unit = std::max<std::size_t>(align, zone_ == 0 ? 1 : 16);
  piece.offset = align_up(top + zone_, unit) + logical_start % unit;
  if (piece.offset + piece.bytes + zone_ > end) return nullptr;
  const auto guard = [this](std::size_t from, std::size_t to) {
    fill_guard(memory_ + from, to - from);
    zones_.push_back({from, to - from});
  };
  guard(top, piece.offset);
  top = piece.offset + piece.bytes;
  allow_access(memory_ + piece.offset, piece.bytes);
  poison(memory_ + piece.offset, piece.bytes);
  guard(top, top + zone_);
  pieces_.push_back(piece);
  return memory_ + piece.offset;
}

void* SharedArena::static_object(const void* tag, std::size_t bytes, std::size_t align, std::string& error) {
  for (const Piece& piece : pieces_) {
    if (piece.tag == tag) return memory_ + piece.offset;
  }
  static_bytes_ = align_up(static_bytes_, align) + bytes;
  void* object = static_bytes_ > kStaticLimit ? nullptr : place(static_top_, kDynamicStart, {tag, 0, 0, bytes}, align);
  if (object == nullptr) {
    error = "SIMT_SHARED: " + std::to_string(static_bytes_) + " bytes of static shared memory; the limit is " +
            std::to_string(kStaticLimit);
  } else if (static_bytes_ + dynamic_size_ > limit_) {
    error = "shared memory: " + std::to_string(static_bytes_) + " bytes static and " + std::to_string(dynamic_size_) +
            " dynamic; the architecture has " + std::to_string(limit_);
    object = nullptr;
  }
  return object;
}

// Before a Carver divides it, dynamic memory is one piece.
void* SharedArena::dynamic_bytes() {
  for (const Piece& piece : pieces_) {
    if (piece.tag == nullptr) return memory_ + piece.offset;
  }
  return place(dynamic_top_, kArenaBytes, {nullptr, ~0u, 0, dynamic_size_}, 1024);
}

void* SharedArena::carve(unsigned sequence, std::size_t logical_end, std::size_t bytes, std::size_t align,
                         std::string& error) {
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    if (piece.tag != nullptr) continue;
    if (piece.sequence == ~0u) {  // the first carve: what was one piece becomes several
      forbid_access(memory_ + piece.offset, piece.bytes);
      pieces_[i] = pieces_.back();  // not erase(): its memmove is TSan's, which takes fibers of other blocks for racing
      pieces_.pop_back();
      std::erase_if(zones_, [](const Zone& zone) { return zone.offset >= kDynamicStart; });
      dynamic_top_ = kDynamicStart;
      break;
    }
    if (piece.sequence != sequence) continue;
    if (piece.bytes == bytes) return memory_ + piece.offset;
    error = "Carver: piece " + std::to_string(sequence) + " has " + std::to_string(bytes) + " bytes here and " +
            std::to_string(piece.bytes) + " in another thread";
    return nullptr;
  }
  if (logical_end > dynamic_size_) {
    error = "Carver: piece " + std::to_string(sequence) + " ends at byte " + std::to_string(logical_end) +
            "; the launch gave " + std::to_string(dynamic_size_) + " bytes of dynamic shared memory";
    return nullptr;
  }
  if (zone_ == 0) dynamic_top_ = kDynamicStart + logical_end - bytes;
  void* piece = place(dynamic_top_, kArenaBytes, {nullptr, sequence, 0, bytes}, align, logical_end - bytes);
  if (piece == nullptr) error = "Carver: too many pieces for the red zones between them";
  return piece;
}

std::string SharedArena::damage() const {
  for (const Zone& zone : zones_) {
    const unsigned char* bad = find_damage(memory_ + zone.offset, zone.bytes);
    if (bad == nullptr) continue;
    const std::size_t at = offset(bad);
    for (const Piece& piece : pieces_) {
      const std::string name = piece.tag != nullptr    ? "a static object of "
                               : piece.sequence == ~0u ? "the dynamic memory of "
                                                       : "Carver piece " + std::to_string(piece.sequence) + " of ";
      const std::string size = name + std::to_string(piece.bytes) + " bytes";
      if (at >= piece.offset + piece.bytes && at < piece.offset + piece.bytes + kZone) {
        return "shared memory written " + std::to_string(at - piece.offset - piece.bytes) + " bytes past the end of " +
               size;
      }
      if (at < piece.offset && at + 2 * kZone >= piece.offset) {
        return "shared memory written " + std::to_string(piece.offset - at) + " bytes before the start of " + size;
      }
    }
    return "shared memory written outside of every object";
  }
  return {};
}

}  // namespace simt
