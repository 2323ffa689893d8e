// From a run to screen, files and exit code, also when the user stops it.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>

#include "harness/core/result.h"
#include "harness/report/progress.h"

namespace assay::tools {

struct ReportFiles {
  std::string json, junit;  // empty: none
};

// Collects the results of a run as they come. While it lives, Ctrl-C and SIGTERM write what is there, marked as
// interrupted, to screen and files, and end the program with exit code 130; a second one ends it at once.
class RunOutput {
 public:
  // `head`: subject, target and candidate as far as they are known before the run.
  RunOutput(harness::RunResult head, ReportFiles files);
  ~RunOutput();

  // For VerifyOptions::progress.
  void add(const harness::CaseResult& result, std::size_t done, std::size_t total);
  // Writes the files, then the table to stdout. Returns the exit code: 2 if a file could not be written.
  int finish(const harness::RunResult& run);

 private:
  void interrupted();
  int write(const harness::RunResult& run) const;

  std::mutex mutex_;
  harness::RunResult so_far_;
  std::size_t total_ = 0;
  bool finished_ = false;
  ReportFiles files_;
  harness::Progress progress_;
  struct Signals;
  std::unique_ptr<Signals> signals_;
};

}  // namespace assay::tools
