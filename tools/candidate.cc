// assay candidate new: a small candidate of the user's own, from the templates.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <memory>

#include "harness/core/catalogue.h"
#include "harness/io/file.h"
#include "tools/cli.h"

namespace assay::tools {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string operation, folder;
};

struct Placeholder {
  std::string_view name;
  std::string value;
};

std::string filled(std::string text, const std::vector<Placeholder>& placeholders) {
  for (const Placeholder& p : placeholders)
    for (std::size_t at = 0; (at = text.find(p.name, at)) != std::string::npos; at += p.value.size()) {
      text.replace(at, p.name.size(), p.value);
    }
  return text;
}

// The name of target and library: letters, digits and _ of the folder's name.
std::string target_name(const fs::path& folder) {
  std::string name = fs::absolute(folder).lexically_normal().filename().string();
  if (name.empty()) name = fs::absolute(folder).lexically_normal().parent_path().filename().string();
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  if (name.empty() || !std::isalpha(static_cast<unsigned char>(name[0]))) name.insert(0, "my_");
  return name;
}

const harness::OperationSpec& known_operation(const std::string& name) {
  std::vector<std::string> known;
  for (const harness::OperationSpec& op : harness::catalogue()) {
    if (op.name == name) return op;
    known.push_back(op.name);
  }
  throw UsageError(fmt::format("no operation \"{}\"{}; see assay list", name, did_you_mean(name, known)));
}

// A path as a shell takes it.
std::string shell_word(const std::string& path) {
  constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+";
  if (!path.empty() && path.find_first_not_of(plain) == std::string::npos) return path;
  std::string word = "'";
  for (const char c : path) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

int new_command(const Options& o) {
  const std::string operation = known_operation(o.operation).name;
  std::string folder_name = operation;
  std::replace(folder_name.begin(), folder_name.end(), '.', '_');
  const fs::path folder = o.folder.empty() ? folder_name : o.folder;
  const fs::path templates = data_path("tools/candidate_template");
  const fs::path own = templates / operation;
  const std::vector<Placeholder> placeholders = {{"@OP@", operation},
                                                 {"@NAME@", target_name(folder)},
                                                 {"@ASSAY_ROOT@", templates.parent_path().parent_path().string()}};
  std::vector<std::pair<fs::path, std::string>> files;
  for (const fs::path& from : {templates / "common", fs::is_directory(own) ? own : templates / "any"})
    for (const auto& entry : fs::directory_iterator(from)) {
      if (!entry.is_regular_file()) continue;
      files.emplace_back(folder / entry.path().filename(), filled(harness::read_file(entry.path()), placeholders));
    }
  std::sort(files.begin(), files.end());
  for (const auto& [file, text] : files)
    if (fs::exists(file))
      throw UsageError(fmt::format("{} is there already; want a new or empty folder", file.string()));
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw UsageError(fmt::format("{}: cannot make the folder: {}", folder.string(), error.message()));
  for (const auto& [file, text] : files) {
    harness::write_file(file, text);
    fmt::print("{}\n", file.string());
  }
  const auto in_folder = [&](const std::string& name) { return shell_word((folder / name).string()); };
  fmt::print("\nNext:\n  cmake -S {} -B {} -G Ninja && cmake --build {}\n  assay verify {} --candidate {}\n",
             shell_word(folder.string()), in_folder("build"), in_folder("build"), operation,
             in_folder(fmt::format("build/lib{}.so", placeholders[1].value)));
  return kPassed;
}

}  // namespace

void add_candidate(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* candidate = app.add_subcommand("candidate", "Start a kernel library of your own");
  candidate->require_subcommand(1);
  candidate->footer(
      "Examples:\n  assay candidate new rms_norm.forward\n  assay candidate new gated_rms_norm.forward my_norm");
  CLI::App* create =
      candidate->add_subcommand("new", "Write a small candidate that compiles: kernel, glue, CMakeLists.txt");
  create->add_option("OP", o->operation, "The operation: see assay list")->type_name("")->required();
  create->add_option("DIR", o->folder, "Where (default: a new folder named like the operation)")->type_name("");
  create->footer("Examples:\n  assay candidate new rms_norm.forward\n  assay candidate new rms_norm.forward my_norm");
  create->callback([o, &exit_code] { exit_code = new_command(*o); });
}

}  // namespace assay::tools
