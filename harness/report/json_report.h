// The complete result of a run as JSON, and back.
//
//   { "assay_report": 1,                     the version of this schema
//     "verdict": "PASSED" | "NOT PASSED", "exit_code": 0 | 1, "counts": {"PASSED": 12, ...},    derived from the rest
//     "subject", "target", "candidate": "...", "seconds": 1.5, "notes": ["..."],
//     "cases": [ { "line", "operation", "dtype", "status", "variant", "contract", "message", "schedule", "repro":
//     "...",
//                  "candidate_seconds", "reference_seconds": 0.1,
//                  "tensors": [ { "tensor", "status", "gate", "worst_at", "pattern": "...", "elements", "failing": 96,
//                                 "got", "wanted", "limit", "headroom", "rms_ratio", "max_ratio": 0.5,
//                                 "noise_dominated": false } ] } ],
//     "trust": [ { "operation", "dtype", "tensor", "trust", "reason": "...", "compared": 12, "min_headroom": 3.5 } ] }
//
// The fields are those of harness/core/result.h. Numbers round-trip; "nan", "inf" and "-inf" are strings. Text that is
// no UTF-8 and control characters are replaced.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/result.h"

namespace assay::harness {

std::string to_json(const RunResult& run);
void write_json(const RunResult& run, const std::filesystem::path& file);  // atomic; throws FileError

RunResult parse_json_report(std::string_view text);             // throws JsonError
RunResult read_json_report(const std::filesystem::path& file);  // throws FileError: "FILE: /cases/3/status: ..."

// The shards of one run as one. Throws std::invalid_argument if subject, target or candidate differ or a case appears
// twice. Trust is that of the worst shard, but a shard that compared a tensor in no case has no say about it.
RunResult merge(const std::vector<RunResult>& shards);

}  // namespace assay::harness
