#include "cuda/simt/exec/device_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "cuda/simt/exec/guard.h"
#include "cuda/simt/executor.h"

namespace simt {
namespace {

constexpr std::size_t kAlign = 256;
constexpr std::size_t kZone = 1024;  // on each side: more than a few vectors or a short row

std::size_t total_bytes(std::size_t bytes) { return (kZone + bytes + kZone + kAlign - 1) / kAlign * kAlign; }

struct Allocation {
  unsigned char* data;
  std::size_t bytes;
  unsigned number;  // counts allocations of the process
};

struct Registry {
  std::mutex mutex;
  std::vector<Allocation> live;  // few: searched from the front
  unsigned count = 0;
};
Registry& registry() {
  static auto* value = new Registry;  // outlives every static that may free device memory
  return *value;
}

std::string text(const Allocation& a) {
  return "device allocation " + std::to_string(a.number) + " (" + std::to_string(a.bytes) + " bytes)";
}

// [p, p + bytes) must lie in one allocation.
void check_range(const char* function, const void* p, std::size_t bytes) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  for (const Allocation& a : r.live) {
    const auto start = reinterpret_cast<std::uintptr_t>(a.data);
    if (address < start || address > start + a.bytes) continue;
    if (bytes <= start + a.bytes - address) return;
    throw Error(std::string(function) + ": " + std::to_string(bytes) + " bytes at offset " +
                std::to_string(address - start) + " leave " + text(a));
  }
  throw Error(std::string(function) + ": the device pointer is in no allocation");
}

}  // namespace

void* device_alloc(std::size_t bytes) {
  const std::size_t total = total_bytes(bytes);
  auto* memory = total < bytes ? nullptr : static_cast<unsigned char*>(std::aligned_alloc(kAlign, total));
  if (memory == nullptr) throw Error("device_alloc: no memory for " + std::to_string(bytes) + " bytes");
  unsigned char* data = memory + kZone;
  fill_guard(memory, kZone);
  poison(data, bytes);
  fill_guard(data + bytes, total - kZone - bytes);
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  r.live.push_back({data, bytes, ++r.count});
  return data;
}

void device_free(void* data) {
  if (data == nullptr) return;
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  const auto found = std::ranges::find(r.live, static_cast<unsigned char*>(data), &Allocation::data);
  if (found == r.live.end()) throw Error("device_free: the pointer is no live allocation");
  unsigned char* memory = found->data - kZone;
  allow_access(memory, total_bytes(found->bytes));
  r.live.erase(found);
  std::free(memory);
}

void device_upload(void* device, const void* host, std::size_t bytes) {
  if (bytes == 0) return;
  check_range("device_upload", device, bytes);
  std::memcpy(device, host, bytes);
}

void device_download(void* host, const void* device, std::size_t bytes) {
  if (bytes == 0) return;
  check_range("device_download", device, bytes);
  std::memcpy(host, device, bytes);  // under MSan the copy knows what nobody computed: the worker judges, by tensor
}

bool is_device_memory(const void* p) {
  return std::ranges::any_of(registry().live, [p](const Allocation& a) { return p >= a.data && p < a.data + a.bytes; });
}

std::string check_device_memory() {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  std::string error;
  for (const Allocation& allocation : r.live) {
    unsigned char* data = allocation.data;
    const unsigned char* before = find_damage(data - kZone, kZone);
    const unsigned char* after = find_damage(data + allocation.bytes, kZone);
    if (before == nullptr && after == nullptr) continue;
    if (error.empty()) {
      error = before != nullptr
                  ? text(allocation) + " was written " + std::to_string(data - before) + " bytes before its start"
                  : text(allocation) + " was written at offset " + std::to_string(after - data) + ", past its end";
    }
    const auto repair = [](unsigned char* zone) {
      allow_access(zone, kZone);
      fill_guard(zone, kZone);
    };
    if (before != nullptr) repair(data - kZone);
    if (after != nullptr) repair(data + allocation.bytes);
  }
  return error;
}

}  // namespace simt
