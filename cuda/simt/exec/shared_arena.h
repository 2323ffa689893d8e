// The shared memory of one resident block: pieces between red zones, poisoned when they are made.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace simt {

class SharedArena {
 public:
  SharedArena();
  ~SharedArena();
  SharedArena(const SharedArena&) = delete;
  SharedArena& operator=(const SharedArena&) = delete;

  // Forgets all pieces. `limit`: bytes that static and dynamic shared memory may have together.
  // `as_on_device`: no red zones, and dynamic pieces at the offsets that the device gives them.
  void reset(std::size_t dynamic_bytes, std::size_t limit, bool as_on_device);

  // These return null and set `error` where the kernel asks for more than there is, or threads disagree.
  void* static_object(const void* tag, std::size_t bytes, std::size_t align, std::string& error);
  void* dynamic_bytes();
  void* carve(unsigned sequence, std::size_t logical_end, std::size_t bytes, std::size_t align, std::string& error);

  bool contains(const void* p) const { return p >= memory_ && p < memory_ + kArenaBytes; }
  std::size_t offset(const void* p) const {
    return static_cast<std::size_t>(static_cast<const unsigned char*>(p) - memory_);
  }

  // Which piece was written out of bounds, empty if none.
  std::string damage() const;

 private:
  struct Piece {
    const void* tag;  // of a static object; null for dynamic memory
    unsigned sequence;
    std::size_t offset, bytes;
  };
  struct Zone {
    std::size_t offset, bytes;
  };
  static constexpr std::size_t kZone = 64;
  // Addresses are offsets into memory_: [static pieces][dynamic pieces], each with a red zone before and after.
  static constexpr std::size_t kStaticLimit = 48 * 1024;  // CUDA's for objects of fixed size
  static constexpr std::size_t kDynamicStart = 64 * 1024;
  static constexpr std::size_t kArenaBytes = kDynamicStart + 320 * 1024;

  void* place(std::size_t& top, std::size_t end, Piece piece, std::size_t align, std::size_t logical_start = 0);

  unsigned char* memory_;
  std::size_t zone_ = kZone;  // bytes of each red zone
  std::vector<Piece> pieces_;
  std::vector<Zone> zones_;
  std::size_t static_top_ = 0, dynamic_top_ = kDynamicStart;
  std::size_t static_bytes_ = 0, dynamic_size_ = 0, limit_ = 0;
};

}  // namespace simt
