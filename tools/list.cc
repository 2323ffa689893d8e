// assay list: what can be verified.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <memory>

#include "harness/core/catalogue.h"
#include "harness/io/model_config.h"
#include "harness/verify/run.h"
#include "tools/cli.h"
#include "tools/selection.h"

namespace assay::tools {
namespace {

struct Options {
  std::vector<std::string> filters;
  bool operations = false, cases = false, presets = false;
  std::string tier = "quick";
};

std::string dtype_text(harness::DTypeRule rule) {
  switch (rule) {
    case harness::DTypeRule::model:
      return "the case's";
    case harness::DTypeRule::float32:
      return "float32";
    case harness::DTypeRule::int32:
      return "int32";
    case harness::DTypeRule::int64:
      return "int64";
    case harness::DTypeRule::boolean:
      return "bool";
    case harness::DTypeRule::residual:
      return "the case's or float32";
    case harness::DTypeRule::either:
      return "float32 or bfloat16";
  }
  return "?";
}

std::string role_text(harness::Role role) {
  switch (role) {
    case harness::Role::in:
      return "in";
    case harness::Role::out:
      return "out";
    case harness::Role::inout:
      return "inout";
    case harness::Role::saved:
      return "saved";
    case harness::Role::tap:
      return "tap";
  }
  return "?";
}

void print_operation(const harness::OperationSpec& op) {
  fmt::print("{}\n  {}\n  integer fill  {}\n", op.name, op.equation, op.exactness);
  for (const harness::AttributeSpec& a : op.attributes)
    fmt::print("  attribute     {} ({}): {}\n", a.name, a.kind, a.meaning);
  for (const harness::TensorSpec& t : op.tensors) {
    std::string remarks;
    if (!t.or_axes.empty()) remarks += fmt::format(", or [{}]", fmt::join(t.or_axes, ", "));
    if (t.optional) remarks += ", optional";
    if (t.strided) remarks += ", rows may lie apart";
    if (t.infinities) remarks += ", may hold infinities";
    const std::string dtype = t.role == harness::Role::saved ? "uint8" : dtype_text(t.dtype);
    fmt::print("  {:<13} {} [{}], {}{}\n", role_text(t.role), t.name, fmt::join(t.axes, ", "), dtype, remarks);
  }
  fmt::print("\n");
}

void list_operations(const std::vector<std::string>& names) {
  std::vector<std::string> known;
  for (const harness::OperationSpec& op : harness::catalogue()) known.insert(known.end(), {op.name, op.family()});
  for (const std::string& name : names)
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw UsageError(fmt::format("no operation \"{}\"{}; see assay list --ops", name, did_you_mean(name, known)));
    }
  for (const harness::OperationSpec& op : harness::catalogue()) {
    const auto is = [&](const std::string& name) { return name == op.name || name == op.family(); };
    if (names.empty() || std::any_of(names.begin(), names.end(), is)) print_operation(op);
  }
}

void list_presets() {
  const std::filesystem::path golden = data_path("golden/presets").parent_path();
  for (const std::string& name : harness::preset_names(golden)) {
    const auto config = harness::preset(name, golden);
    fmt::print("{:<18} {:>3} layers, hidden size {}\n", name, config.layers_block_type.size(), config.hidden_size);
  }
}

void list_cases(const Options& o) {
  const auto all = harness::list_cases(harness::tier_from_name(o.tier));
  std::string text;
  for (const harness::Case& c : select_cases(all, join_filters(o.filters))) text += to_line(c) + '\n';
  fmt::print("{}", text);
}

void list_summary() {
  const auto all = harness::list_cases(harness::Tier::quick);
  fmt::print("{:<28} {}\n", "operation", "quick cases");
  for (const harness::OperationSpec& op : harness::catalogue()) {
    const auto count =
        std::count_if(all.begin(), all.end(), [&](const harness::Case& c) { return c.operation() == op.name; });
    fmt::print("{:<28} {:>11}\n", op.name, count);
  }
}

int list_command(const Options& o) {
  if (o.presets && !o.filters.empty()) throw UsageError("--presets takes no FILTER");
  if (o.operations)
    list_operations(o.filters);
  else if (o.presets)
    list_presets();
  else if (o.cases || !o.filters.empty())
    list_cases(o);
  else
    list_summary();
  return kPassed;
}

}  // namespace

void add_list(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("list", "Show operations, cases and presets");
  command->add_option("FILTER", o->filters, "Only these: words of a case line, or with --ops names of operations")
      ->type_name("");
  CLI::Option* operations = command->add_flag("--ops", o->operations, "Equations, attributes, tensors, shapes, dtypes");
  CLI::Option* cases = command->add_flag("--cases", o->cases, "The lines of all cases of a tier");
  CLI::Option* presets = command->add_flag("--presets", o->presets, "The models that ship with Assay");
  operations->excludes(cases, presets);
  cases->excludes(presets);
  command->add_option("--tier", o->tier, "quick (default), full or soak")->type_name("T");
  command->footer(
      "Examples:\n  assay list --ops rms_norm\n  assay list --cases rms_norm/backward dtype=bf16 --tier full");
  command->callback([o, &exit_code] { exit_code = list_command(*o); });
}

}  // namespace assay::tools
