// What parent and worker say to each other, version 2: frames, numbers and their encoding. PROTOCOL.md is the text.
// Shared by both sides; standard library headers only, and no exception type that lives outside this file (the worker
// is also built under MemorySanitizer, where code of libstdc++.so is not instrumented).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string_view>
#include <type_traits>
#include <vector>

namespace assay::harness::protocol {

static_assert(std::endian::native == std::endian::little, "the protocol is little-endian");

constexpr std::uint32_t kMagic = 0x59415341;  // "ASAY"
constexpr std::uint32_t kVersion = 2;

// File descriptors that the worker inherits.
constexpr int kRequestFd = 3;  // read
constexpr int kReplyFd = 4;    // written
constexpr int kSharedFd = 5;   // the shared file, mapped

constexpr int kExitLostConnection = 121;  // the worker's exit code when it can no longer talk to its parent

// A frame: u32 payload bytes, u32 type, payload.
constexpr std::size_t kFrameHeader = 8;
constexpr std::uint32_t kMaxPayload = 16u << 20;
enum class Frame : std::uint32_t { loaded = 1, run = 2, ran = 3 };

enum class LoadStatus : std::uint32_t { ok = 0, unusable = 1, no_device = 2 };
enum class RunStatus : std::uint32_t {
  completed = 0,
  not_supported = 1,
  error = 2,
  needs_room = 3,  // the written saved tensor is larger than its slot: ask again with a larger one
  too_large = 4,   // the candidate asks for more memory than the limit
  malformed = 5    // the worker does not understand the request
};
enum class Where : std::uint32_t { before = 0, after = 1, gap = 2 };

constexpr std::uint32_t kTensorIsWritten = 1;          // flag of a saved tensor: written by this call, not read
constexpr std::uint32_t kWorkspaceIndex = 0xFFFFFFFF;  // stands for the workspace where a tensor's index is expected

// The first word of the shared file: which function of the candidate runs now. Only for messages.
enum class Stage : std::uint32_t {
  idle,
  load,
  target,
  supports,
  saved_bytes,
  contract,
  variant,
  workspace_bytes,
  allocate,
  upload,
  select_schedule,
  run,
  synchronize,
  download,
  free,
  set_counting,
  counters,
  count
};
inline const char* name(Stage stage) {
  constexpr const char* kNames[] = {
      "idle",     "load",   "target",          "supports", "saved_bytes", "contract", "variant", "workspace_bytes",
      "allocate", "upload", "select_schedule", "run",      "synchronize", "download", "free",    "set_counting",
      "counters"};
  static_assert(std::size(kNames) == static_cast<std::size_t>(Stage::count));
  return stage < Stage::count ? kNames[static_cast<std::size_t>(stage)] : "unknown";
}
constexpr std::size_t kControlBytes = 4096;  // of the shared file, before the first slot
constexpr std::size_t kSlotAlignment = 64;

// Thrown by Decoder.
struct Malformed {
  const char* what;
};

// Builds one frame.
class Encoder {
 public:
  explicit Encoder(Frame type) { start(type); }
  void start(Frame type) {
    bytes_.clear();
    put(std::uint32_t{0});
    put(static_cast<std::uint32_t>(type));
  }
  template <class T>
  requires std::is_arithmetic_v<T>
  void put(T value) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  template <class T>
  requires std::is_enum_v<T>
  void put(T value) { put(static_cast<std::uint32_t>(value)); }
  void put(std::string_view text) {
    put(static_cast<std::uint32_t>(text.size()));
    const std::size_t at = bytes_.size();
    bytes_.resize(at + text.size());
    if (!text.empty()) std::memcpy(bytes_.data() + at, text.data(), text.size());
  }
  // Overwrites a value put earlier.
  template <class T>
  void patch(std::size_t at, T value) {
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  // Adds another frame's payload to this one's.
  void append(const Encoder& other) {
    bytes_.insert(bytes_.end(), other.bytes_.begin() + kFrameHeader, other.bytes_.end());
  }
  std::size_t size() const { return bytes_.size(); }
  const std::vector<std::byte>& finish() {
    patch(0, static_cast<std::uint32_t>(bytes_.size() - kFrameHeader));
    return bytes_;
  }

 private:
  std::vector<std::byte> bytes_;
};

// Reads a payload; every read is checked.
class Decoder {
 public:
  Decoder(const std::byte* data, std::size_t size) : data_(data), left_(size) {}

  template <class T>
  T get() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  std::string_view text() {
    const auto size = get<std::uint32_t>();
    return {reinterpret_cast<const char*>(take(size)), size};
  }
  // A count of items that each take at least `item_bytes`: never more than the payload can hold.
  std::uint32_t count(std::size_t item_bytes) {
    const auto items = get<std::uint32_t>();
    if (items > left_ / item_bytes) throw Malformed{"a count exceeds the message"};
    return items;
  }
  template <class E>
  E choice(E last) {
    const auto value = get<std::uint32_t>();
    if (value > static_cast<std::uint32_t>(last)) throw Malformed{"a number out of its range"};
    return static_cast<E>(value);
  }
  void end() const {
    if (left_ != 0) throw Malformed{"bytes left over"};
  }

 private:
  const std::byte* take(std::size_t bytes) {
    if (bytes > left_) throw Malformed{"it ends too early"};
    const std::byte* at = data_;
    data_ += bytes;
    left_ -= bytes;
    return at;
  }
  const std::byte* data_;
  std::size_t left_;
};

}  // namespace assay::harness::protocol
