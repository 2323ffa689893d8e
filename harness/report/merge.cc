#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <tuple>

#include "harness/report/json_report.h"

namespace assay::harness {
namespace {

void merge_trust(std::vector<TrustResult>& all, const TrustResult& one) {
  const auto same = std::find_if(all.begin(), all.end(), [&](const TrustResult& t) {
    return std::tie(t.operation, t.dtype, t.tensor) == std::tie(one.operation, one.dtype, one.tensor);
  });
  if (same == all.end()) {
    all.push_back(one);
    return;
  }
  if (one.compared == 0) return;
  if (same->compared == 0) {
    *same = one;
    return;
  }
  if (same->trust == Trust::trusted && one.trust != Trust::trusted) {
    same->trust = one.trust;
    same->reason = one.reason;
  }
  same->compared += one.compared;
  same->min_headroom = std::min(same->min_headroom, one.min_headroom);
}

}  // namespace

RunResult merge(const std::vector<RunResult>& shards) {
  if (shards.empty()) throw std::invalid_argument("merge: no reports; want at least one");
  RunResult all;
  all.subject = shards[0].subject;
  all.target = shards[0].target;
  all.candidate = shards[0].candidate;
  std::set<std::string> lines;
  for (const RunResult& shard : shards) {
    if (std::tie(shard.subject, shard.target, shard.candidate) != std::tie(all.subject, all.target, all.candidate)) {
      throw std::invalid_argument(
          fmt::format("merge: a report of {} {} on {} beside one of {} {} on {}; want one run's shards", shard.subject,
                      shard.candidate, shard.target, all.subject, all.candidate, all.target));
    }
    for (const CaseResult& c : shard.cases) {
      if (!lines.insert(c.line).second)
        throw std::invalid_argument(fmt::format("merge: {} is in two reports; want it once", c.line));
      all.cases.push_back(c);
    }
    for (const TrustResult& t : shard.trust) merge_trust(all.trust, t);
    for (const std::string& note : shard.notes) {
      if (std::find(all.notes.begin(), all.notes.end(), note) == all.notes.end()) all.notes.push_back(note);
    }
    all.seconds += shard.seconds;
  }
  return all;
}

}  // namespace assay::harness
