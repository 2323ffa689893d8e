#include "harness/report/failure.h"

#include <fmt/format.h>

#include <algorithm>

namespace assay::harness {
namespace {

void append_field(std::string& text, std::string_view name, const std::string& value) {
  if (!value.empty()) text += fmt::format("  {:<9} {}\n", name, displayable(value));
}

}  // namespace

bool is_bad(Status status) {
  return status == Status::failed || status == Status::crashed || status == Status::timeout;
}

std::string failure_line(const CaseResult& result, const TextStyle& style) {
  std::string why;
  for (const TensorResult& t : result.tensors)
    if (is_bad(t.status)) {
      why = fmt::format("{}, {} of {}", displayable(t.tensor), t.failing, count_text(t.elements, "element"));
      break;
    }
  if (why.empty()) why = displayable(result.message.substr(0, result.message.find('\n')));
  return fmt::format("{} {}{}{}", painted(name(result.status), tone(result.status), style), displayable(result.line),
                     why.empty() ? "" : ": ", why);
}

std::string failure_text(const CaseResult& result, const TextStyle& style) {
  std::string text =
      fmt::format("{} {}\n", painted(name(result.status), tone(result.status), style), displayable(result.line));
  for (std::string_view rest = result.message; !rest.empty();) {  // a message may have several lines
    const std::string_view line = rest.substr(0, rest.find('\n'));
    text += fmt::format("  {}\n", displayable(line));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
  }
  append_field(text, "schedule", result.schedule);
  append_field(text, "variant", result.variant);
  append_field(text, "contract", result.contract);
  append_field(text, "repeat", result.repro);
  return text;
}

}  // namespace assay::harness
