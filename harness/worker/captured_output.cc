#include "harness/worker/captured_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace assay::harness {
namespace {

unsigned char byte_at(std::string_view text, std::size_t i) { return static_cast<unsigned char>(text[i]); }

// Bytes of the well-formed UTF-8 sequence of two to four bytes that `text` begins with; 0 if it begins with none.
std::size_t sequence_length(std::string_view text) {
  const unsigned char first = byte_at(text, 0);
  const std::size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                             : first >= 0xE0 && first <= 0xEF ? 3
                             : first >= 0xF0 && first <= 0xF4 ? 4
                                                              : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte_at(text, i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = byte_at(text, 1);
  const bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  const bool no_character =
      (first == 0xED && second > 0x9F) || (first == 0xF4 && second > 0x8F);  // surrogates; > U+10FFFF
  const bool control = first == 0xC2 && second < 0xA0;
  return overlong || no_character || control ? 0 : length;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const unsigned char first = byte_at(text, 0);
    const bool ascii = (first >= 0x20 && first < 0x7F) || first == '\n' || first == '\t';
    const std::size_t length = ascii ? 1 : sequence_length(text);
    if (length > 0) {
      result += text.substr(0, length);
    } else {
      fmt::format_to(std::back_inserter(result), "\\x{:02X}", first);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return result;
}

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
  if (tail_.size() <= kKeep && dropped_ == 0) return printable(head_ + tail_);
  const std::size_t excess = tail_.size() - std::min(tail_.size(), kKeep);
  return printable(fmt::format("{}\n[... {} bytes left out ...]\n{}", head_, dropped_ + excess,
                               std::string_view(tail_).substr(excess)));
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
