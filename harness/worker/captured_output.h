// What a candidate prints: the beginning and the end are kept, the middle of too much is cut out.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace assay::harness {

class CapturedOutput {
 public:
  static constexpr std::size_t kKeep = std::size_t{16} << 10;  // of each end

  void append(std::string_view text);
  void clear();
  std::string text() const;

 private:
  std::string head_, tail_;
  std::size_t dropped_ = 0;
};

// The text as UTF-8 without control characters but line ends and tabs: any other byte becomes \\xNN. What a candidate
// says ends up in terminals, JSON and XML, which must not break on it.
std::string printable(std::string_view text);

// The lines of `text` that say most about a death: from the first line of a sanitizer's report on, or else the last
// ones.
std::string telling_lines(std::string_view text, std::size_t lines = 8);

}  // namespace assay::harness
