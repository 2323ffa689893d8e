// assay report: results that were written before.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <limits>
#include <memory>

#include "harness/report/json_report.h"
#include "harness/report/junit.h"
#include "harness/report/table.h"
#include "tools/cli.h"

namespace assay::tools {
namespace {

struct Options {
  std::string file, json, junit;
  std::vector<std::string> files;
  bool all = false;
};

int print(const harness::RunResult& run, bool all) {
  harness::TableOptions options;
  options.style = harness::text_style(STDOUT_FILENO);
  if (all) options.full_failures = std::numeric_limits<std::size_t>::max();
  fmt::print("{}", harness::table(run, options));
  return run.exit_code() == 0 ? kPassed : kNotPassed;
}

int merge_command(const Options& o) {
  require_writable(o.json);
  require_writable(o.junit);
  std::vector<harness::RunResult> shards;
  for (const std::string& file : o.files) shards.push_back(harness::read_json_report(file));
  const harness::RunResult run = harness::merge(shards);
  if (!o.json.empty()) harness::write_json(run, o.json);
  if (!o.junit.empty()) harness::write_junit(run, o.junit);
  return print(run, false);
}

}  // namespace

void add_report(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* report = app.add_subcommand("report", "Show a result written by --json, or join those of shards");
  report->require_subcommand(1);
  report->footer(
      "Examples:\n  assay report show result.json --all\n  assay report merge shard*.json --json result.json");
  CLI::App* show = report->add_subcommand("show", "Print a result as verify printed it");
  show->add_option("FILE", o->file, "A file that --json wrote")->type_name("")->required();
  show->add_flag("--all", o->all, "Every failure in full");
  show->footer(
      fmt::format("{}\nExamples:\n  assay report show result.json\n  assay report show result.json --all", kExitCodes));
  CLI::App* merge = report->add_subcommand("merge", "Join the results of the shards of one run");
  merge->add_option("FILE", o->files, "Files that --json wrote")->type_name("")->required();
  merge->add_option("--json", o->json, "Write the joined result")->type_name("FILE");
  merge->add_option("--junit", o->junit, "Write JUnit XML")->type_name("FILE");
  merge->footer(
      fmt::format("{}\nExamples:\n  assay report merge a.json b.json\n"
                  "  assay report merge shard*.json --json result.json",
                  kExitCodes));
  show->callback([o, &exit_code] { exit_code = print(harness::read_json_report(o->file), o->all); });
  merge->callback([o, &exit_code] { exit_code = merge_command(*o); });
}

}  // namespace assay::tools
