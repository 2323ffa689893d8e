// assay golden: fixtures, and the reference judged against them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>

#include "harness/golden/diff.h"
#include "harness/golden/generate.h"
#include "harness/io/fixture.h"
#include "harness/io/model_config.h"
#include "harness/report/text.h"
#include "harness/verify/run.h"
#include "tools/cli.h"
#include "tools/run_output.h"

namespace assay::tools {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string json, junit;
  std::string folder;
  bool accept = false;
};

int check_command(const Options& o) {
  const auto files = expand_json_files(o.files);
  RunOutput output(
      {.subject = "reference", .target = "cpu:reference", .candidate = {}, .notes = {}, .cases = {}, .trust = {}},
      {o.json, o.junit});
  return output.finish(harness::golden_check(
      files, [&](const harness::CaseResult& r, std::size_t done, std::size_t total) { output.add(r, done, total); }));
}

// "key value" words, wrapped at 100 columns.
void print_object(const char* title, const nlohmann::ordered_json& object) {
  fmt::print("{}\n", title);
  std::string line;
  for (const auto& [key, value] : object.items()) {
    const std::string word =
        harness::displayable(fmt::format("{}={}", key, value.is_string() ? value.get<std::string>() : value.dump()));
    if (!line.empty() && line.size() + word.size() + 4 > 100) {
      fmt::print("  {}\n", line);
      line.clear();
    }
    line += (line.empty() ? "" : "  ") + word;
  }
  if (!line.empty()) fmt::print("  {}\n", line);
}

void print_tensor(const harness::HostTensor& t) {
  double least = std::numeric_limits<double>::infinity(), largest = -least, squares = 0;
  std::int64_t finite = 0;
  for (const double v : t.to_double()) {
    least = std::min(least, v);
    largest = std::max(largest, v);
    if (std::isfinite(v)) squares += v * v, ++finite;
  }
  const bool empty = t.size() == 0;
  const auto number = [&](double v) { return empty ? std::string("-") : fmt::format("{:.6g}", v); };
  fmt::print("  {:<44} {:<9} {:<16} {:>12} {:>12} {:>12}\n", t.name, name(t.dtype), harness::to_string(t.shape),
             number(least), number(largest), number(finite ? std::sqrt(squares / static_cast<double>(finite)) : 0));
}

void print_recipe(const harness::Recipe& recipe) {
  fmt::print("recipe, rebuilt from\n  {}\n", harness::displayable(recipe.case_line));
  fmt::print("inputs\n  {:<44} {:<9} {:<16} {:>16}\n", "name", "dtype", "shape", "checksum");
  for (const harness::RecipeInput& t : recipe.inputs)
    fmt::print("  {:<44} {:<9} {:<16} {:016x}\n", t.name, name(t.dtype), harness::to_string(t.shape), t.checksum);
  fmt::print("outputs\n  {:<44} {:<9} {:<16} {:>12} {:>12} {:>12} {:>7}\n", "name", "dtype", "shape", "mean", "max_abs",
             "rms", "samples");
  for (const harness::RecipeOutput& t : recipe.outputs)
    fmt::print("  {:<44} {:<9} {:<16} {:>12.6g} {:>12.6g} {:>12.6g} {:>7}\n", t.name, name(t.dtype),
               harness::to_string(t.shape), t.mean, t.max_abs, t.rms, t.at.size());
}

int show_command(const Options& o) {
  for (const std::filesystem::path& file : expand_json_files(o.files)) {
    const harness::GoldenFile golden = harness::read_golden(file);
    const auto* recipe = std::get_if<harness::Recipe>(&golden);
    const harness::Fixture& fixture = recipe ? recipe->head : std::get<harness::Fixture>(golden);
    fmt::print("{}: {}, layer {}, path {}\n", file.string(), harness::displayable(fixture.name),
               harness::displayable(fixture.layer), harness::displayable(fixture.path));
    print_object("provenance", fixture.provenance);
    print_object("config", fixture.config);
    print_object("attributes", fixture.attributes);
    if (recipe) {
      print_recipe(*recipe);
      continue;
    }
    fmt::print("tensors\n  {:<44} {:<9} {:<16} {:>12} {:>12} {:>12}\n", "name", "dtype", "shape", "min", "max", "rms");
    for (const harness::HostTensor& t : fixture.tensors) print_tensor(t);
  }
  return kPassed;
}

constexpr std::size_t kMostLines = 8;

void print_lines(const std::vector<std::string>& lines) {
  for (std::size_t i = 0; i < std::min(lines.size(), kMostLines); ++i)
    fmt::print("    {}\n", harness::displayable(lines[i]));
  if (lines.size() > kMostLines) fmt::print("    and {} more\n", lines.size() - kMostLines);
}

// Missing files are written; files that are wrong only if that is accepted, and files that are still right never.
int generate_command(const Options& o) {
  using Kind = harness::GoldenChange::Kind;
  const std::filesystem::path folder = o.folder, golden = data_path("golden/presets").parent_path();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw UsageError(fmt::format("{}: {}; want a folder to write to", o.folder, error.message()));
  std::map<Kind, int> count;
  for (const harness::GoldenDraft& draft :
       harness::golden_drafts(harness::preset("tiny", golden), harness::preset("tiny-all", golden))) {
    const harness::GoldenChange change = harness::golden_change(draft, folder);
    ++count[change.kind];
    const bool write = change.kind == Kind::missing || (change.kind == Kind::wrong && o.accept);
    if (write) harness::accept(change);
    if (change.kind == Kind::none) continue;
    const char* word = change.kind == Kind::missing ? "new"
                       : change.kind == Kind::right ? "still right"
                       : write                      ? "changed"
                                                    : "would change";
    fmt::print("{:<12}  {}\n", word, change.file.string());
    if (change.kind == Kind::wrong) print_lines(change.reasons);
  }
  fmt::print("{} new, {} unchanged, {} still right, {} {}\n", count[Kind::missing], count[Kind::none],
             count[Kind::right], count[Kind::wrong], o.accept ? "changed" : "would change");
  if (count[Kind::wrong] == 0 || o.accept) return kPassed;
  fmt::print("Nothing was changed. To change what is listed: assay golden generate {} --accept\n", o.folder);
  return kNotPassed;
}

int diff_command(const Options& o) {
  const std::vector<std::string> lines =
      harness::golden_differences(harness::read_golden(o.files.at(0)), harness::read_golden(o.files.at(1)));
  for (const std::string& line : lines) fmt::print("{}\n", harness::displayable(line));
  if (lines.empty()) fmt::print("no difference\n");
  return lines.empty() ? kPassed : kNotPassed;
}

}  // namespace

void add_golden(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* golden =
      app.add_subcommand("golden", "Fixtures: judge the reference by them, write, compare and show them");
  golden->require_subcommand(1);
  golden->footer(
      "Examples:\n  assay golden check golden/upstream\n  assay golden show golden/upstream/rms_norm_0_f32.json");
  CLI::App* check = golden->add_subcommand("check", "Judge the reference alone against fixtures");
  check->add_option("FILE", o->files, "Fixtures, or folders of them")->type_name("")->required();
  check->add_option("--json", o->json, "Write the complete result")->type_name("FILE");
  check->add_option("--junit", o->junit, "Write JUnit XML")->type_name("FILE");
  check->footer(
      fmt::format("{}\nExamples:\n  assay golden check golden/upstream\n"
                  "  assay golden check mine.json --json result.json",
                  kExitCodes));
  CLI::App* show = golden->add_subcommand("show", "Provenance, config, and tensors with shape, dtype, min, max, RMS");
  show->add_option("FILE", o->files, "Fixtures, or folders of them")->type_name("")->required();
  show->footer("Examples:\n  assay golden show mine.json\n  assay golden show golden/upstream/rms_norm_0_f32.json");
  CLI::App* generate =
      golden->add_subcommand("generate", "Write the reference's own fixtures: every layer, path and init rule");
  generate->add_option("DIR", o->folder, "Folder of the fixtures")->type_name("")->required();
  generate->add_flag("--accept", o->accept, "Also change files that are there and no longer right");
  generate->footer("Examples:\n  assay golden generate mine\n  assay golden generate mine --accept");
  CLI::App* diff = golden->add_subcommand("diff", "What two fixtures differ in");
  diff->add_option("A B", o->files, "Two fixtures")->type_name("")->required()->expected(2);
  diff->footer(
      "Exit code: 0 no difference, 1 some, 2 bad usage or input.\n"
      "Examples:\n  assay golden diff old.json new.json\n  assay golden diff golden/upstream/mlp_train_base_f32.json "
      "mine.json");
  generate->callback([o, &exit_code] { exit_code = generate_command(*o); });
  diff->callback([o, &exit_code] { exit_code = diff_command(*o); });
  check->callback([o, &exit_code] { exit_code = check_command(*o); });
  show->callback([o, &exit_code] { exit_code = show_command(*o); });
}

}  // namespace assay::tools
