// Trust: whether a run's passes mean something, per operation, dtype and tensor over all its cases.
#pragma once

#include <vector>

#include "harness/verify/case_run.h"

namespace assay::harness {

struct TrustReport {
  std::vector<TrustResult> trust;
  std::vector<CaseResult> failed_pools;  // small tensors, pooled over the run, that fail the relative gate
};

// In the order of the runs. Every output of every operation that ran is accounted for: one that no case compared is
// untrusted.
TrustReport judge_trust(const std::vector<CaseRun>& runs);

}  // namespace assay::harness
