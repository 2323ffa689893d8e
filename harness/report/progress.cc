#include "harness/report/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "harness/report/failure.h"

namespace assay::harness {
namespace {

constexpr std::size_t kToldFailures = 20;
constexpr double kBarPeriod = 0.1;  // seconds
constexpr double kLogPeriod = 30;
constexpr double kLogPause = 2;
constexpr std::string_view kEraseLine = "\r\x1b[K";

}  // namespace

Progress::Progress(TextStyle style, Sink sink, Clock clock)
    : style_(style), sink_(std::move(sink)), clock_(std::move(clock)), start_(clock_()), last_(start_) {}

double Progress::steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Progress::operator()(const CaseResult& result, std::size_t done, std::size_t total) {
  if (is_bad(result.status)) tell(result);
  const double now = clock_();
  if (style_.terminal)
    draw_bar(done, total, now);
  else
    log_line(done, total, now);
}

void Progress::finish() {
  if (std::exchange(bar_drawn_, false)) sink_(std::string(kEraseLine));
}

void Progress::tell(const CaseResult& result) {
  if (++bad_ > kToldFailures + 1) return;
  finish();
  sink_(bad_ <= kToldFailures ? failure_line(result, style_) + '\n'
                              : "more cases do not pass; the report counts them\n");
}

std::string Progress::estimate(std::size_t done, std::size_t total, double now) const {
  if (done == 0 || done >= total) return "";
  return seconds_text((now - start_) / static_cast<double>(done) * static_cast<double>(total - done)) + " left";
}

void Progress::draw_bar(std::size_t done, std::size_t total, double now) {
  if (bar_drawn_ && now - last_ < kBarPeriod && done < total) return;
  last_ = now;
  bar_drawn_ = true;
  const std::string tail = fmt::format(" {}/{}{} {}", done, total, bad_ ? fmt::format(", {} not passed", bad_) : "",
                                       estimate(done, total, now));
  const auto room = std::clamp(style_.columns - 3 - static_cast<int>(tail.size()), 0, 40);
  const auto filled = total == 0 ? 0 : static_cast<int>(static_cast<std::size_t>(room) * done / total);
  sink_(fmt::format("{}[{:#>{}}{:.>{}}]{}", kEraseLine, "", filled, "", room - filled, tail));
}

void Progress::log_line(std::size_t done, std::size_t total, double now) {
  const std::size_t tenth = total == 0 ? 10 : 10 * done / total;
  if (now - last_ < (tenth == last_tenth_ ? kLogPeriod : kLogPause)) return;
  last_ = now;
  last_tenth_ = tenth;
  const std::string left = estimate(done, total, now);
  sink_(fmt::format("{} of {}{}{}\n", done, count_text(static_cast<std::int64_t>(total), "case"),
                    bad_ ? fmt::format(", {} not passed", bad_) : "", left.empty() ? "" : ", " + left));
}

}  // namespace assay::harness
