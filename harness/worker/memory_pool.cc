#include "harness/worker/memory_pool.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "harness/worker/annotations.h"

namespace assay::harness {
namespace {
constexpr std::size_t kKeepBytes = std::size_t{64} << 20;
constexpr std::size_t kLargestPowerOfTwo = std::size_t{1} << 20;  // above: whole 64 KiB, so that little is wasted
constexpr std::size_t kLargeStep = std::size_t{64} << 10;

std::size_t size_class(std::size_t bytes) {
  if (bytes <= kLargestPowerOfTwo) return std::bit_ceil(std::max<std::size_t>(bytes, 1024));
  return (bytes + kLargeStep - 1) / kLargeStep * kLargeStep;
}
}  // namespace

void* MemoryPool::take(std::size_t bytes, std::string& error) {
  const std::size_t size = size_class(bytes);
  const auto has_size = [size](const Block& block) { return block.bytes == size; };
  if (const auto found = std::find_if(idle_.begin(), idle_.end(), has_size); found != idle_.end()) {
    busy_.push_back(*found);
    idle_.erase(found);
    idle_bytes_ -= size;
    return busy_.back().data;
  }
  void* data = nullptr;
  std::array<char, 1024> text{};
  if (candidate_.allocate(size, &data, text.data(), text.size()) != 0) {
    text.back() = '\0';
    error = "allocate: " + std::to_string(size) + " bytes: " + text.data();
    return nullptr;
  }
  if (!data || reinterpret_cast<std::uintptr_t>(data) % 256 != 0) {
    error = "allocate: returned " + std::string(data ? "memory that is not 256-byte aligned" : "NULL") + " for " +
            std::to_string(size) + " bytes; want 256-byte aligned memory";
    return nullptr;
  }
  busy_.push_back({data, size});
  return data;
}

void MemoryPool::give_back() {
  for (const Block& block : busy_) {
    if (candidate_.device_type == kDLCPU)
      permit(block.data, block.bytes);  // a run that failed left its fences forbidden
    idle_.push_back(block);
    idle_bytes_ += block.bytes;
  }
  busy_.clear();
  while (idle_bytes_ > kKeepBytes) {
    const auto largest =
        std::max_element(idle_.begin(), idle_.end(), [](const Block& a, const Block& b) { return a.bytes < b.bytes; });
    idle_bytes_ -= largest->bytes;
    candidate_.free(largest->data);
    idle_.erase(largest);
  }
}

}  // namespace assay::harness
