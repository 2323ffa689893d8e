// What a person or a log sees while a run goes on.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "harness/core/result.h"
#include "harness/report/text.h"

namespace assay::harness {

// Terminal: one line, drawn again at most ten times a second: bar, count, estimate. Log: a plain line at every tenth of
// the run, but none within 2 s of another, and at least every 30 s. Either way a case that did not pass is told when it
// happens, the first 20 of them.
class Progress {
 public:
  using Clock = std::function<double()>;                      // seconds, monotonic
  using Sink = std::function<void(const std::string& text)>;  // writes to the screen at once

  Progress(TextStyle style, Sink sink, Clock clock = steady_seconds);

  // Call after every case, from one thread at a time.
  void operator()(const CaseResult& result, std::size_t done, std::size_t total);
  // Removes the bar.
  void finish();

  static double steady_seconds();

 private:
  void tell(const CaseResult& result);
  void draw_bar(std::size_t done, std::size_t total, double now);
  void log_line(std::size_t done, std::size_t total, double now);
  std::string estimate(std::size_t done, std::size_t total, double now) const;

  TextStyle style_;
  Sink sink_;
  Clock clock_;
  double start_, last_;
  std::size_t last_tenth_ = 0, bad_ = 0;
  bool bar_drawn_ = false;
};

}  // namespace assay::harness
