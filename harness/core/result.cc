#include "harness/core/result.h"

#include <algorithm>

namespace assay::harness {

std::string_view name(Status status) {
  switch (status) {
    case Status::passed:
      return "PASSED";
    case Status::failed:
      return "FAILED";
    case Status::crashed:
      return "CRASHED";
    case Status::timeout:
      return "TIMEOUT";
    case Status::not_supported:
      return "NOT_SUPPORTED";
    case Status::skipped:
      return "SKIPPED";
  }
  return "?";
}

std::string_view name(Trust trust) {
  switch (trust) {
    case Trust::trusted:
      return "TRUSTED";
    case Trust::untrusted:
      return "UNTRUSTED";
    case Trust::inconclusive:
      return "INCONCLUSIVE";
  }
  return "?";
}

std::map<Status, std::int64_t> RunResult::counts() const {
  std::map<Status, std::int64_t> result;
  for (const CaseResult& c : cases) ++result[c.status];
  return result;
}

int RunResult::exit_code() const {
  const bool bad = std::any_of(cases.begin(), cases.end(), [](const CaseResult& c) {
    return c.status == Status::failed || c.status == Status::crashed || c.status == Status::timeout;
  });
  const bool doubtful =
      std::any_of(trust.begin(), trust.end(), [](const TrustResult& t) { return t.trust != Trust::trusted; });
  const bool any_ran =
      std::any_of(cases.begin(), cases.end(), [](const CaseResult& c) { return c.status == Status::passed; });
  return bad || doubtful || !any_ran ? 1 : 0;
}

}  // namespace assay::harness
