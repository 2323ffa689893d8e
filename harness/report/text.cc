#include "harness/report/text.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace assay::harness {
namespace {

// Length of the UTF-8 sequence that opens `text`, 0 if it is none (overlong forms and surrogates included).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(0);
  const std::size_t length = first < 0x80                    ? 1
                             : first >= 0xC2 && first < 0xE0 ? 2
                             : first >= 0xE0 && first < 0xF0 ? 3
                             : first >= 0xF0 && first < 0xF5 ? 4
                                                             : 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  if (length == 3 && ((first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) >= 0xA0))) return 0;
  if (length == 3 && first == 0xEF && byte(1) == 0xBF && byte(2) >= 0xBE) return 0;  // U+FFFE, U+FFFF: not XML
  if (length == 4 && ((first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) >= 0x90))) return 0;
  return length;
}

}  // namespace

TextStyle text_style(int descriptor) {
  TextStyle style;
  const char* const term = std::getenv("TERM");
  const char* const no_color = std::getenv("NO_COLOR");
  style.terminal = ::isatty(descriptor) == 1 && !(term && std::string_view(term) == "dumb");
  style.colour = style.terminal && !(no_color && *no_color);
  winsize size{};
  if (style.terminal && ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) style.columns = size.ws_col;
  return style;
}

Tone tone(Status status) {
  switch (status) {
    case Status::passed:
      return Tone::good;
    case Status::failed:
    case Status::crashed:
    case Status::timeout:
      return Tone::bad;
    case Status::not_supported:
      return Tone::doubtful;
    case Status::skipped:
      return Tone::quiet;
  }
  return Tone::bad;
}

std::string painted(std::string_view text, Tone tone, const TextStyle& style) {
  if (!style.colour) return std::string(text);
  const int code = tone == Tone::good ? 32 : tone == Tone::bad ? 31 : tone == Tone::doubtful ? 33 : 2;
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return fmt::format("{:.9g}", value);
}

std::string headroom_text(double value) {
  if (std::isinf(value)) return "exact";
  return std::isnan(value) ? "-" : fmt::format("{:.3g}x", value);
}

std::string seconds_text(double seconds) {
  if (seconds < 10) return fmt::format("{:.1f} s", std::max(seconds, 0.0));
  const auto whole = static_cast<long>(std::lround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string count_text(std::int64_t count, std::string_view one) {
  return fmt::format("{} {}{}", count, one, count == 1 ? "" : "s");
}

std::string displayable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const auto first = static_cast<unsigned char>(text.front());
    if (length == 0)
      result += '?';
    else if (length == 1 && (first < 0x20 || first == 0x7F))
      result += ' ';
    else
      result += text.substr(0, length);
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return result;
}

}  // namespace assay::harness
