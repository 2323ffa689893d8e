#include "harness/report/junit.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "harness/io/file.h"
#include "harness/report/failure.h"

namespace assay::harness {
namespace {

std::string escaped(std::string_view text, bool keep_lines = false) {
  std::string result;
  while (true) {
    const std::size_t end = text.find('\n');
    for (const char c : displayable(text.substr(0, end))) {
      switch (c) {
        case '&':
          result += "&amp;";
          break;
        case '<':
          result += "&lt;";
          break;
        case '>':
          result += "&gt;";
          break;
        case '"':
          result += "&quot;";
          break;
        default:
          result += c;
      }
    }
    if (end == std::string_view::npos) return result;
    result += keep_lines ? '\n' : ' ';
    text.remove_prefix(end + 1);
  }
}

// What stands inside a <testcase>; empty: passed.
std::string outcome(const CaseResult& c) {
  if (c.status == Status::passed) return "";
  if (!is_bad(c.status)) {
    return fmt::format("      <skipped message=\"{}: {}\"/>\n", name(c.status), escaped(c.message));
  }
  const char* const element = c.status == Status::failed ? "failure" : "error";
  return fmt::format("      <{0} type=\"{1}\" message=\"{2}\">{3}</{0}>\n", element, name(c.status),
                     escaped(failure_line(c, {})), escaped(failure_text(c, {}), true));
}

std::string testcase(std::string_view suite, std::string_view case_name, double seconds, const std::string& inside) {
  const std::string head = fmt::format("    <testcase classname=\"{}\" name=\"{}\" time=\"{:.6f}\"", escaped(suite),
                                       escaped(case_name), seconds);
  return inside.empty() ? head + "/>\n" : head + ">\n" + inside + "    </testcase>\n";
}

struct Suite {
  std::string name;
  std::int64_t tests = 0, failures = 0, errors = 0, skipped = 0;
  double seconds = 0;
  std::string cases;

  void add(const CaseResult& c) {
    ++tests;
    failures += c.status == Status::failed;
    errors += c.status == Status::crashed || c.status == Status::timeout;
    skipped += c.status == Status::not_supported || c.status == Status::skipped;
    const double spent = c.candidate_seconds + c.reference_seconds;
    seconds += spent;
    cases += testcase(name, c.line, spent, outcome(c));
  }
  void add(const TrustResult& t) {
    ++tests;
    std::string inside;
    if (t.trust != Trust::trusted) {
      ++failures;
      inside = fmt::format("      <failure type=\"{0}\" message=\"{0}: {1}\"/>\n", harness::name(t.trust),
                           escaped(t.reason));
    }
    cases += testcase(name, fmt::format("{} {} {}", t.operation, t.dtype, t.tensor), 0, inside);
  }
  std::string counts() const {
    return fmt::format("tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.6f}\"", tests, failures,
                       errors, skipped, seconds);
  }
};

}  // namespace

std::string to_junit(const RunResult& run) {
  std::vector<Suite> suites;
  std::map<std::string, std::size_t> index;
  for (const CaseResult& c : run.cases) {
    const auto [it, fresh] = index.try_emplace(c.operation, suites.size());
    if (fresh) suites.push_back({.name = c.operation, .cases = {}});
    suites[it->second].add(c);
  }
  if (!run.trust.empty()) {
    suites.push_back({.name = "trust", .cases = {}});
    for (const TrustResult& t : run.trust) suites.back().add(t);
  }
  Suite all{.name = "assay", .cases = {}};
  std::string body;
  for (const Suite& s : suites) {
    all.tests += s.tests, all.failures += s.failures, all.errors += s.errors, all.skipped += s.skipped;
    body += fmt::format("  <testsuite name=\"{}\" {}>\n", escaped(s.name), s.counts());
    body += fmt::format(
        "    <properties><property name=\"target\" value=\"{}\"/><property name=\"candidate\" value=\"{}\"/>"
        "</properties>\n",
        escaped(run.target), escaped(run.candidate));
    body += s.cases + "  </testsuite>\n";
  }
  all.seconds = run.seconds;
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" +
         fmt::format("<testsuites name=\"assay\" {}>\n{}</testsuites>\n", all.counts(), body);
}

void write_junit(const RunResult& run, const std::filesystem::path& file) { write_file(file, to_junit(run)); }

}  // namespace assay::harness
