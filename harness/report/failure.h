// One case that did not pass, for a person.
#pragma once

#include <string>

#include "harness/core/result.h"
#include "harness/report/text.h"

namespace assay::harness {

bool is_bad(Status status);  // FAILED, CRASHED, TIMEOUT

// One line: "FAILED rms_norm/forward rows=7 ...: output.hidden_states, 3 of 96 elements".
std::string failure_line(const CaseResult& result, const TextStyle& style);

// Everything: each failing tensor with its worst element by named axes, got, wanted, limit, how many and where; what
// the harness says; variant, schedule, contract; the command that repeats it. Ends with a newline.
std::string failure_text(const CaseResult& result, const TextStyle& style);

}  // namespace assay::harness
