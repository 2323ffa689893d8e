// How reports spell numbers, times and verdicts on a terminal and in a log.
#pragma once

#include <string>
#include <string_view>

#include "harness/core/result.h"

namespace assay::harness {

struct TextStyle {
  bool terminal = false;  // a person watches: a line may be drawn again
  bool colour = false;
  int columns = 100;
};

// Of a stream's file descriptor: a terminal or not, its width, NO_COLOR and TERM=dumb honoured.
TextStyle text_style(int descriptor);

enum class Tone { good, bad, doubtful, quiet };
Tone tone(Status status);
std::string painted(std::string_view text, Tone tone, const TextStyle& style);

std::string number_text(double value);                             // "0.0123457", "inf", "nan"
std::string headroom_text(double value);                           // "3.14x", "exact" where the error is 0
std::string seconds_text(double seconds);                          // "0.4 s", "12 s", "3 min 20 s"
std::string count_text(std::int64_t count, std::string_view one);  // "1 case", "2 cases"

// Control characters, which a candidate's message may bring, become spaces; invalid UTF-8 becomes '?'.
std::string displayable(std::string_view text);

}  // namespace assay::harness
