#include "cuda/simt/exec/report.h"

#include <cstdio>

#include "cuda/simt/executor.h"

namespace simt {

// libstdc++ copies the text out of MSan's sight.
Error::Error(const std::string& text) : runtime_error(text) { mark_initialised(what(), text.size() + 1); }

namespace {

std::string triple(unsigned x, unsigned y, unsigned z) {
  return "(" + std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z) + ")";
}

bool waits_alike(const Fiber& a, const Fiber& b) {
  return a.waits_at.line == b.waits_at.line && a.waits_at.file == b.waits_at.file && a.waits_for == b.waits_for &&
         a.waits_mask == b.waits_mask;
}

}  // namespace

std::string describe(Site site) {
  const std::string file = site.file;
  return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(site.line);
}

std::string describe(const BlockShape& block) { return "block " + triple(block.index.x, block.index.y, block.index.z); }

std::string describe(const Fiber& fiber) {
  return "thread " + triple(fiber.index.x, fiber.index.y, fiber.index.z) + " = warp " +
         std::to_string(fiber.linear / 32) + " lane " + std::to_string(fiber.lane) + ", " + describe(*fiber.shape);
}

std::string hex(unsigned mask) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

std::string describe_waiting(const Block& block) {
  constexpr int kMaxLines = 12;
  std::string text;
  int lines = 0;
  for (unsigned i = 0; i < block.threads;) {
    const Fiber& first = *block.fibers[i];
    unsigned end = i + 1;
    if (!first.done) {
      while (end < block.threads && !block.fibers[end]->done && waits_alike(first, *block.fibers[end])) ++end;
      if (lines++ == kMaxLines) return text + "\n  ...";
      text += "\n  " + describe(first);
      if (end - i > 1) text += " and the next " + std::to_string(end - i - 1);
      text += ": " + std::string(first.waits_for);
      if (first.waits_mask != ~0u) text += " mask " + hex(first.waits_mask);
      text += " at " + describe(first.waits_at);
    }
    i = end;
  }
  return text;
}

}  // namespace simt
