// The patterns that memory holds before a run: poison where the candidate must write, fences where it must not.
#pragma once

#include <dlpack/dlpack.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace assay::harness {

// One element's poison: `size` bytes, the size of the dtype.
struct Poison {
  std::uint64_t bits = 0;
  std::size_t size = 1;
};

// Pattern 0 or 1. Floating types get signalling NaNs: every arithmetic operation and conversion quiets them, so a
// computed value never equals one; only an untouched or a blindly copied element does.
inline Poison poison_of(DLDataType dtype, int pattern) {
  const bool second = pattern != 0;
  const std::size_t size = (std::size_t{dtype.bits} * dtype.lanes + 7) / 8;
  if (dtype.lanes == 1 && dtype.code == kDLBfloat && size == 2) return {second ? 0xFF9Au : 0x7FA5u, 2};
  if (dtype.lanes == 1 && dtype.code == kDLFloat) {
    if (size == 2) return {second ? 0xFD5Au : 0x7DA5u, 2};
    if (size == 4) return {second ? 0xFF9A5A5Au : 0x7FA5A5A5u, 4};
    if (size == 8) return {second ? 0xFFF25A5A5A5A5A5Au : 0x7FF5A5A5A5A5A5A5u, 8};
  }
  return {second ? 0x5A5A5A5A5A5A5A5Au : 0xA5A5A5A5A5A5A5A5u, size};
}

// Memory without a dtype (workspace): float32's poison, whose upper half is bfloat16's.
inline Poison poison_of_bytes(int pattern) { return {pattern != 0 ? 0xFF9A5A5Au : 0x7FA5A5A5u, 4}; }

inline void fill(std::span<std::byte> memory, Poison poison) {
  std::array<std::byte, 64> block;
  for (std::size_t i = 0; i < block.size(); ++i) {
    block[i] = static_cast<std::byte>(poison.bits >> (8 * (i % poison.size)));
  }
  const std::size_t whole = block.size() / poison.size * poison.size;
  for (std::size_t at = 0; at < memory.size(); at += whole) {
    std::memcpy(memory.data() + at, block.data(), std::min(whole, memory.size() - at));
  }
}

constexpr std::size_t kFenceBytes = 256;

// A fence's words are float32 signalling NaNs whose payload depends on owner and place, so that bytes copied from one
// fence to another, or moved along it, are still noticed.
inline void fill_fence(std::byte* fence, std::uint32_t owner, int pattern) {
  std::uint32_t state = owner * 0x9E3779B9u + static_cast<std::uint32_t>(pattern) * 0x85EBCA6Bu;
  for (std::size_t at = 0; at < kFenceBytes; at += sizeof state) {
    state = state * 1664525u + 1013904223u;
    const std::uint32_t word = 0x7FA00000u | state >> 11;  // 21 bits of payload below the 5 fixed ones
    std::memcpy(fence + at, &word, sizeof word);
  }
}

}  // namespace assay::harness
