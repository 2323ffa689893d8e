#include "harness/worker/guarded_tensor.h"

#include <algorithm>
#include <utility>

#include "harness/worker/annotations.h"

namespace assay::harness {
namespace {

std::optional<Difference> compare(const std::byte* wanted, const std::byte* found, std::size_t bytes) {
  if (bytes == 0 || std::memcmp(wanted, found, bytes) == 0) return std::nullopt;
  Difference difference{-1, 0};
  for (std::size_t i = 0; i < bytes; ++i) {
    if (wanted[i] == found[i]) continue;
    if (difference.first < 0) difference.first = static_cast<std::int64_t>(i);
    ++difference.count;
  }
  return difference;
}

// Calls f(element index, element in a, element in b) with elements as unsigned words of their size.
template <class Word, class F>
void for_each_pair(const Layout& layout, const std::byte* a, const std::byte* b, F&& f) {
  layout.for_each_run([&](const Run& run) {
    for (std::size_t at = 0; at < run.bytes; at += sizeof(Word)) {
      Word wa, wb;
      std::memcpy(&wa, a + run.storage + at, sizeof wa);
      std::memcpy(&wb, b + run.storage + at, sizeof wb);
      f(static_cast<std::int64_t>((run.compact + at) / sizeof(Word)), wa, wb);
    }
  });
}

// Elements for which `wanted(a, b)` holds.
template <class P>
Difference count_elements(const Layout& layout, const std::byte* a, const std::byte* b, P&& wanted) {
  Difference found{-1, 0};
  const auto visit = [&](std::int64_t index, auto wa, auto wb) {
    if (!wanted(wa, wb)) return;
    if (found.first < 0) found.first = index;
    ++found.count;
  };
  switch (layout.element_bytes()) {
    case 1:
      for_each_pair<std::uint8_t>(layout, a, b, visit);
      break;
    case 2:
      for_each_pair<std::uint16_t>(layout, a, b, visit);
      break;
    case 4:
      for_each_pair<std::uint32_t>(layout, a, b, visit);
      break;
    default:
      for_each_pair<std::uint64_t>(layout, a, b, visit);
      break;
  }
  return found;
}

// On a CPU target the device memory is this process's, so a sanitizer can guard it.
bool is_host(const assay_candidate& candidate) { return candidate.device_type == kDLCPU; }

template <class Copy>
bool copied(const char* function, std::size_t bytes, std::string& error, Copy&& copy) {
  std::array<char, 1024> text{};
  if (copy(text.data(), text.size()) == 0) return true;
  text.back() = '\0';
  error = std::string(function) + ": " + std::to_string(bytes) + " bytes: " + text.data();
  return false;
}

}  // namespace

GuardedTensor::GuardedTensor(Layout layout, std::uint32_t owner, std::array<Poison, 2> poison, HostCopies& host)
    : layout_(std::move(layout)), owner_(owner), poison_(poison), host_(&host) {}

void GuardedTensor::fill_fences(int pattern) {
  fill_fence(host_->image.data(), 2 * owner_, pattern);
  fill_fence(host_->image.data() + kFenceBytes + layout_.storage_bytes(), 2 * owner_ + 1, pattern);
}

void GuardedTensor::fill_image(int pattern, const std::byte* content) {
  host_->image.resize(guarded_bytes());
  fill_fences(pattern);
  std::byte* const storage = host_->image.data() + kFenceBytes;
  if (!content || !layout_.is_one_run())
    fill({storage, layout_.storage_bytes()}, poison_[static_cast<std::size_t>(pattern)]);
  mark_undefined(host_->image.data(), host_->image.size());
  if (content) layout_.scatter(content, storage);
}

void GuardedTensor::fill_image_with_zeros(int pattern) {
  host_->image.assign(guarded_bytes(), std::byte{0});
  fill_fences(pattern);
}

bool GuardedTensor::allocate(MemoryPool& pool, std::string& error) {
  base_ = static_cast<std::byte*>(pool.take(guarded_bytes(), error));
  return base_ != nullptr;
}

bool GuardedTensor::upload(const assay_candidate& candidate, std::string& error) {
  const bool ok = copied("upload", host_->image.size(), error, [&](char* text, std::size_t size) {
    return candidate.upload(base_, host_->image.data(), host_->image.size(), text, size);
  });
  mark_defined(host_->image.data(), host_->image.size());
  if (ok && is_host(candidate)) {
    forbid(base_, kFenceBytes);
    forbid(base_ + kFenceBytes + layout_.storage_bytes(), kFenceBytes);
  }
  return ok;
}

bool GuardedTensor::download(const assay_candidate& candidate, int slot, bool is_result, std::string& error) {
  if (is_host(candidate)) permit(base_, guarded_bytes());
  std::vector<std::byte>& host = host_->actual[static_cast<std::size_t>(slot)];
  host.resize(guarded_bytes());
  const bool ok = copied("download", host.size(), error, [&](char* text, std::size_t size) {
    return candidate.download(host.data(), base_, host.size(), text, size);
  });
  if (kTracksUndefined && is_result) require_defined_elements(host);
  mark_defined(host.data(), host.size());
  return ok;
}

// Elements that still hold a poison are another finding: unwritten.
void GuardedTensor::require_defined_elements(const std::vector<std::byte>& host) const {
  std::vector<std::byte> values = host;
  mark_defined(values.data(), values.size());
  layout_.for_each_run([&](const Run& run) {
    for (std::size_t at = kFenceBytes + run.storage; at < kFenceBytes + run.storage + run.bytes;
         at += poison_[0].size) {
      const bool is_poison = std::memcmp(&values[at], &poison_[0].bits, poison_[0].size) == 0 ||
                             std::memcmp(&values[at], &poison_[1].bits, poison_[1].size) == 0;
      if (!is_poison) require_defined(&host[at], poison_[0].size);
    }
  });
}

std::optional<Difference> GuardedTensor::changed_fence(protocol::Where where) const {
  const std::byte* const wanted = host_->image.data();
  const std::byte* const found = host_->actual[0].data();
  const std::size_t storage = layout_.storage_bytes();
  if (where == protocol::Where::after) {
    return compare(wanted + kFenceBytes + storage, found + kFenceBytes + storage, kFenceBytes);
  }
  if (where == protocol::Where::before) {
    auto difference = compare(wanted, found, kFenceBytes);
    if (difference) difference->first -= static_cast<std::int64_t>(kFenceBytes);
    return difference;
  }
  if (layout_.is_one_run()) return std::nullopt;
  std::vector<std::byte> gaps_as_wanted(wanted + kFenceBytes, wanted + kFenceBytes + storage);
  layout_.for_each_run([&](const Run& run) {
    std::memcpy(gaps_as_wanted.data() + run.storage, found + kFenceBytes + run.storage, run.bytes);
  });
  return compare(gaps_as_wanted.data(), found + kFenceBytes, storage);
}

std::optional<Difference> GuardedTensor::changed_elements() const {
  const std::byte* const wanted = host_->image.data() + kFenceBytes;
  const std::byte* const found = host_->actual[0].data() + kFenceBytes;
  bool equal = true;
  layout_.for_each_run(
      [&](const Run& run) { equal = equal && std::memcmp(wanted + run.storage, found + run.storage, run.bytes) == 0; });
  if (equal) return std::nullopt;
  return count_elements(layout_, wanted, found, [](auto a, auto b) { return a != b; });
}

Difference GuardedTensor::unwritten(int pattern, bool both) const {
  const std::uint64_t first = poison_[static_cast<std::size_t>(pattern)].bits;
  const std::uint64_t second = poison_[static_cast<std::size_t>(both ? 1 - pattern : pattern)].bits;
  return count_elements(
      layout_, host_->actual[0].data() + kFenceBytes, host_->actual[both ? 1 : 0].data() + kFenceBytes,
      [&]<class Word>(Word a, Word b) { return a == static_cast<Word>(first) && b == static_cast<Word>(second); });
}

}  // namespace assay::harness
