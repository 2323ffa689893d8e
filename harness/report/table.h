// The report of a run on a terminal.
#pragma once

#include <cstddef>
#include <string>

#include "harness/core/result.h"
#include "harness/report/text.h"

namespace assay::harness {

struct TableOptions {
  TextStyle style;
  std::size_t full_failures = 5;  // how many failures are told in full; the rest is counted
};

// A row per operation and dtype; what is not trusted, if anything; the first failures in full; what the run cannot
// show; and as the last line the verdict with totals and target.
std::string table(const RunResult& run, const TableOptions& options);

// The last line alone: "PASSED 1520 cases on cpu:simt (assay 0.1) in 12 s".
std::string verdict_line(const RunResult& run, const TextStyle& style);

}  // namespace assay::harness
