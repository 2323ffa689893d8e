#include "harness/worker/captured_output.h"

#include <fmt/format.h>

#include <algorithm>

namespace assay::harness {

void CapturedOutput::append(std::string_view text) {
  const std::size_t to_head = std::min(text.size(), kKeep - head_.size());
  head_ += text.substr(0, to_head);
  tail_ += text.substr(to_head);
  if (tail_.size() > 2 * kKeep) {  // cut rarely, not at every append
    dropped_ += tail_.size() - kKeep;
    tail_.erase(0, tail_.size() - kKeep);
  }
}

void CapturedOutput::clear() {
  head_.clear();
  tail_.clear();
  dropped_ = 0;
}

std::string CapturedOutput::text() const {
  if (tail_.size() <= kKeep && dropped_ == 0) return head_ + tail_;
  const std::size_t excess = tail_.size() - std::min(tail_.size(), kKeep);
  return fmt::format("{}\n[... {} bytes left out ...]\n{}", head_, dropped_ + excess,
                     std::string_view(tail_).substr(excess));
}

std::string telling_lines(std::string_view text, std::size_t lines) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  const std::size_t sign = std::min(text.find("Sanitizer: "), text.find(": runtime error: "));
  if (sign != std::string_view::npos) {
    const std::string_view report = text.substr(text.rfind('\n', sign) + 1);  // npos + 1 is 0: the first line
    std::size_t end = 0;
    for (std::size_t line = 0; line < 3 * lines && end != std::string_view::npos; ++line) {
      end = report.find('\n', end == 0 ? 0 : end + 1);
    }
    return std::string(report.substr(0, end));
  }
  std::size_t start = text.size();
  for (std::size_t line = 0; line < lines && start != std::string_view::npos && start > 0; ++line) {
    start = text.rfind('\n', start - 1);
  }
  return std::string(start == std::string_view::npos ? text : text.substr(start == 0 ? 0 : start + 1));
}

}  // namespace assay::harness
