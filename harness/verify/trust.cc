#include "harness/verify/trust.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <tuple>

#include "harness/core/catalogue.h"
#include "harness/core/explain.h"

namespace assay::harness {
namespace {

using Key = std::tuple<std::string, std::string, std::string>;  // operation, dtype, tensor

struct Account {
  std::int64_t compared = 0, unnoticed = 0, off = 0;
  bool tells_apart = false;
  double min_headroom = std::numeric_limits<double>::infinity();
  Pool pool;
};

void merge(Pool& into, const Pool& from) {
  into.elements += from.elements;
  into.cases += from.cases;
  into.shares += from.shares;
  into.candidate_squares += from.candidate_squares;
  into.baseline_squares += from.baseline_squares;
  into.candidate_max = std::max(into.candidate_max, from.candidate_max);
  into.baseline_max = std::max(into.baseline_max, from.baseline_max);
}

// Untrusted, in order of what it means.
std::string doubt(const Account& a) {
  if (a.compared == 0) return "no case compared it";
  if (!a.tells_apart) return "in no case were at least half of the expected values distinct and non-zero (forced zeros aside)";
  if (a.unnoticed > 0)
    return fmt::format("an error of 4 limits, planted into one element, went unreported in {} of {} cases", a.unnoticed,
                       a.compared);
  return "";
}

}  // namespace

TrustReport judge_trust(const std::vector<CaseRun>& runs) {
  std::map<Key, Account> accounts;
  std::set<std::pair<std::string, std::string>> ran;
  for (const CaseRun& run : runs) {
    const CaseResult& c = run.result;
    if (!run.evidence.empty()) ran.emplace(c.operation, c.dtype);  // the reference's own checks have none
    for (const Evidence& e : run.evidence) {
      Account& a = accounts[{c.operation, c.dtype, e.tensor}];
      ++a.compared;
      a.unnoticed += e.planted_unnoticed;
      a.off += e.matched_is_off;
      a.tells_apart |= e.tells_apart;
      a.min_headroom = std::min(a.min_headroom, e.headroom);
      merge(a.pool, e.pool);
    }
  }
  // An output that is always there and that nobody compared.
  for (const auto& [op, dtype] : ran)
    for (const TensorSpec& t : operation(op).tensors)
      if ((t.role == Role::out || t.role == Role::inout) && !t.optional) accounts.try_emplace({op, dtype, t.name});

  TrustReport report;
  for (const auto& [key, a] : accounts) {
    TrustResult t;
    std::tie(t.operation, t.dtype, t.tensor) = key;
    t.compared = a.compared;
    t.min_headroom = a.min_headroom;
    t.reason = doubt(a);
    if (!t.reason.empty()) {
      t.trust = Trust::untrusted;
    } else if (2 * a.off > a.compared) {
      t.trust = Trust::inconclusive;
      t.reason =
          fmt::format("the matched reference itself errs by more than 10 % in {} of {} cases", a.off, a.compared);
    }
    report.trust.push_back(t);

    const TensorResult pooled = a.pool.judge(t.tensor);
    if (pooled.status != Status::failed) continue;
    CaseResult failed;
    failed.line = fmt::format("pool of {} small cases of {} {}", a.pool.cases, t.operation, t.dtype);
    failed.operation = t.operation;
    failed.dtype = t.dtype;
    failed.status = Status::failed;
    failed.message = explain(pooled) + "; over small tensors, each error divided by its limit";
    failed.repro = fmt::format("assay verify {} dtype={}", t.operation, t.dtype);
    failed.tensors.push_back(pooled);
    report.failed_pools.push_back(std::move(failed));
  }
  return report;
}

}  // namespace assay::harness
