#include "harness/report/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>
#include <vector>

#include "harness/report/failure.h"
#include "harness/report/roofline.h"

namespace assay::harness {
namespace {

using Cells = std::vector<std::string>;

// Columns as wide as their widest cell; text to the left, numbers to the right.
std::string aligned(const std::vector<Cells>& rows, const std::vector<bool>& right) {
  std::vector<std::size_t> widths(right.size());
  for (const Cells& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  for (const Cells& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += right[i] ? fmt::format("{:>{}}", row[i], widths[i]) : fmt::format("{:<{}}", row[i], widths[i]);
      if (i + 1 < row.size()) line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
  return text;
}

struct Group {
  std::int64_t cases = 0;
  std::map<Status, std::int64_t> counts;
  double headroom = std::numeric_limits<double>::infinity();
  std::string tensor;  // that of the least headroom

  void add(const CaseResult& c) {
    ++cases;
    ++counts[c.status];
    for (const TensorResult& t : c.tensors)
      if (tensor.empty() || t.headroom < headroom) {
        headroom = t.headroom;
        tensor = t.tensor;
      }
  }
};

std::string verdict_table(const RunResult& run) {
  std::vector<std::pair<std::pair<std::string, std::string>, Group>> groups;  // in the order of the run
  std::map<std::pair<std::string, std::string>, std::size_t> index;
  for (const CaseResult& c : run.cases) {
    const std::pair key(displayable(c.operation), displayable(c.dtype));
    const auto [it, fresh] = index.try_emplace(key, groups.size());
    if (fresh) groups.emplace_back(key, Group{});
    groups[it->second].second.add(c);
  }
  std::sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) { return a.first < b.first; });

  std::vector<Status> statuses = {Status::passed};  // and every other one that occurs
  for (const auto& [status, count] : run.counts())
    if (status != Status::passed) statuses.push_back(status);
  Cells head = {"operation", "dtype", "cases"};
  std::vector<bool> right = {false, false, true};
  for (const Status s : statuses) {
    head.emplace_back(name(s));
    right.push_back(true);
  }
  head.insert(head.end(), {"headroom", "least at"});
  right.insert(right.end(), {true, false});

  std::vector<Cells> rows = {head};
  for (const auto& [key, group] : groups) {
    const auto or_dash = [](const std::string& text) { return text.empty() ? std::string("-") : text; };
    Cells row = {or_dash(key.first), or_dash(key.second), std::to_string(group.cases)};
    for (const Status s : statuses) {
      const auto it = group.counts.find(s);
      row.push_back(it == group.counts.end() ? "-" : std::to_string(it->second));
    }
    row.push_back(group.tensor.empty() ? "-" : headroom_text(group.headroom));
    row.push_back(displayable(group.tensor));
    rows.push_back(row);
  }
  return aligned(rows, right);
}

std::int64_t counted(const CaseResult& c, std::string_view name) {
  const auto it = c.counters.find(name);
  return it == c.counters.end() ? 0 : it->second;
}
std::int64_t moved_bytes(const CaseResult& c) {
  return counted(c, "global_read.bytes") + counted(c, "global_write.bytes");
}

// Of the counted cases the one of each operation, dtype and variant that moves most.
std::string counts_table(const RunResult& run) {
  std::map<std::tuple<std::string, std::string, std::string>, const CaseResult*> largest;
  for (const CaseResult& c : run.cases) {
    if (c.counters.empty()) continue;
    const CaseResult*& kept = largest[{displayable(c.operation), displayable(c.dtype), displayable(c.variant)}];
    if (!kept || moved_bytes(c) > moved_bytes(*kept)) kept = &c;
  }
  if (largest.empty()) return "";
  const auto ratio = [](std::int64_t a, std::int64_t b) {
    return b == 0 ? "-" : fmt::format("{:.3f}", double(a) / double(b));
  };
  std::vector<Cells> rows = {{"counted, the largest", "dtype", "variant", "kB", "of compulsory", "sectors",
                              "wavefronts", "tensor Mop", "least us", "by"}};
  for (const auto& [key, c] : largest) {
    const auto both = [c = c](const char* space, const char* what) {
      return counted(*c, fmt::format("{}_read.{}", space, what)) + counted(*c, fmt::format("{}_write.{}", space, what));
    };
    std::int64_t tensor = 0;
    for (const auto& [type, rate] : h100_sxm().tensor_operations)
      tensor += counted(*c, fmt::format("tensor_operations.{}", type));
    const Roofline least = roofline(h100_sxm(), c->counters);
    rows.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key),
                    fmt::format("{:.1f}", double(moved_bytes(*c)) / 1e3),
                    ratio(moved_bytes(*c), counted(*c, "compulsory_bytes")),
                    ratio(both("global", "sectors"), both("global", "ideal_sectors")),
                    ratio(both("shared", "wavefronts"), both("shared", "ideal_wavefronts")),
                    fmt::format("{:.2f}", double(tensor) / 1e6), fmt::format("{:.2f}", 1e6 * least.seconds),
                    std::string(least.limiter)});
  }
  return aligned(rows, {false, false, false, true, true, true, true, true, true, false}) +
         fmt::format(
             "Compulsory: every tensor once. Sectors, wavefronts: over the fewest. Least us: predicted for {} from the "
             "counts, not measured.\n\n",
             h100_sxm().name) +
         (largest.size() == 1 ? arithmetic_text(h100_sxm(), largest.begin()->second->counters) + '\n' : "");
}

std::string trust_table(const RunResult& run) {
  std::vector<Cells> rows = {{"trust", "operation", "dtype", "tensor", "compared", "why"}};
  for (const TrustResult& t : run.trust)
    if (t.trust != Trust::trusted) {
      rows.push_back({std::string(name(t.trust)), displayable(t.operation), displayable(t.dtype), displayable(t.tensor),
                      std::to_string(t.compared), displayable(t.reason)});
    }
  return rows.size() == 1 ? "" : aligned(rows, {false, false, false, false, true, false}) + '\n';
}

// Why cases did not run, each reason once with how many it kept from running; the commonest first.
std::string refusals(const RunResult& run, const TableOptions& options) {
  std::map<std::string, std::int64_t> counts;
  for (const CaseResult& c : run.cases)
    if ((c.status == Status::not_supported || c.status == Status::skipped) && !c.message.empty()) {
      ++counts[fmt::format("{}: {}", name(c.status), displayable(c.message))];
    }
  std::vector<std::pair<std::string, std::int64_t>> reasons(counts.begin(), counts.end());
  std::stable_sort(reasons.begin(), reasons.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text;
  for (std::size_t i = 0; i < std::min(reasons.size(), options.full_failures); ++i) {
    text += fmt::format("{} ({})\n", reasons[i].first, count_text(reasons[i].second, "case"));
  }
  if (reasons.size() > options.full_failures) {
    const auto rest = static_cast<std::int64_t>(reasons.size() - options.full_failures);
    text += fmt::format("{} more; --json FILE keeps them all.\n", count_text(rest, "reason"));
  }
  return text.empty() ? text : text + '\n';
}

std::string failures(const RunResult& run, const TableOptions& options) {
  std::string text;
  std::size_t told = 0, bad = 0;
  for (const CaseResult& c : run.cases) {
    if (!is_bad(c.status)) continue;
    if (++bad <= options.full_failures) {
      text += failure_text(c, options.style) + '\n';
      ++told;
    }
  }
  if (bad > told) {
    text += fmt::format("{} more did not pass; --json FILE keeps them all.\n\n",
                        count_text(static_cast<std::int64_t>(bad - told), "case"));
  }
  return text;
}

}  // namespace

std::string verdict_line(const RunResult& run, const TextStyle& style) {
  const bool ok = run.exit_code() == 0;
  const auto doubtful =
      std::count_if(run.trust.begin(), run.trust.end(), [](const TrustResult& t) { return t.trust != Trust::trusted; });
  std::string parts;
  for (const auto& [status, count] : run.counts()) {
    parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", count, name(status));
  }
  if (doubtful > 0) parts += fmt::format(", {} not trusted", count_text(doubtful, "tensor"));
  const std::string verdict = painted(ok ? "PASSED" : "NOT PASSED", ok ? Tone::good : Tone::bad, style);
  return fmt::format("{}: {} on {}{}: {} in {}\n", verdict,
                     count_text(static_cast<std::int64_t>(run.cases.size()), "case"),
                     run.target.empty() ? "no target" : displayable(run.target),
                     run.candidate.empty() ? "" : " (" + displayable(run.candidate) + ")",
                     parts.empty() ? "nothing ran" : parts, seconds_text(run.seconds));
}

std::string table(const RunResult& run, const TableOptions& options) {
  std::string text;
  if (!run.cases.empty()) text += verdict_table(run) + '\n';
  text += counts_table(run) + trust_table(run) + refusals(run, options) + failures(run, options);
  for (const std::string& note : run.notes) text += fmt::format("Note: {}\n", displayable(note));
  return text + verdict_line(run, options.style);
}

}  // namespace assay::harness
