#include "tools/cli.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

namespace assay::tools {
namespace fs = std::filesystem;
namespace {

fs::path program_folder() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  return error ? fs::path(".") : self.parent_path();
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string ShortHelp::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const {
  std::string text = CLI::Formatter::make_help(app, std::move(name), mode);
  if (std::count(text.begin(), text.end(), '\n') <= 24) return text;
  for (std::size_t at = 0; (at = text.find("\n\n", at)) != std::string::npos;) text.erase(at, 1);
  return text;
}

fs::path worker_path() { return program_folder() / "assay_worker"; }

fs::path library_path(std::string_view name) {
  return (program_folder() / ".." / "lib" / fmt::format("lib{}.so", name)).lexically_normal();
}

fs::path data_path(std::string_view relative) {
  const fs::path installed = (program_folder() / "../share/assay" / relative).lexically_normal();
  if (fs::exists(installed)) return installed;
  const fs::path checkout = fs::path(ASSAY_SOURCE_FOLDER) / relative;
  if (fs::exists(checkout)) return checkout;
  throw UsageError(
      fmt::format("{} is missing, and so is {}; install Assay again", installed.string(), checkout.string()));
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& known) {
  if (word.empty() || word.size() > 100) return "";
  std::vector<std::pair<std::size_t, std::string>> near;
  for (const std::string& k : known) {
    const std::size_t distance = edit_distance(word, k);
    const bool part = word.size() >= 3 && k.find(word) != std::string::npos;
    const std::size_t few = word.size() < 4 ? 1 : std::max<std::size_t>(2, word.size() / 3);
    if (part || distance <= few) near.emplace_back(distance, k);
  }
  std::sort(near.begin(), near.end());
  near.erase(std::unique(near.begin(), near.end()), near.end());
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(near.size(), 3); ++i) {
    text += fmt::format("{}\"{}\"", i == 0 ? "; did you mean " : " or ", near[i].second);
  }
  return text.empty() ? "" : text + "?";
}

std::vector<fs::path> expand_json_files(const std::vector<std::string>& paths) {
  std::vector<fs::path> files;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!fs::exists(path, error))
      throw UsageError(fmt::format("{}: no such file; want a fixture or a folder of them", path));
    if (!fs::is_directory(path, error)) {
      files.emplace_back(path);
      continue;
    }
    const std::size_t before = files.size();
    for (const auto& entry : fs::directory_iterator(path, error))
      if (entry.path().extension() == ".json") files.push_back(entry.path());
    if (error) throw UsageError(fmt::format("{}: cannot read the folder: {}", path, error.message()));
    if (files.size() == before) throw UsageError(fmt::format("{}: no *.json in this folder; want fixtures", path));
    std::sort(files.begin() + static_cast<std::ptrdiff_t>(before), files.end());
  }
  return files;
}

void require_writable(const std::string& file) {
  if (file.empty()) return;
  std::error_code error;
  const fs::path folder = fs::path(file).parent_path().empty() ? "." : fs::path(file).parent_path();
  if (!fs::is_directory(folder, error))
    throw UsageError(fmt::format("{}: the folder {} is not there; make it first", file, folder.string()));
  if (fs::is_directory(file, error)) throw UsageError(fmt::format("{}: is a folder; want the name of a file", file));
  const bool special = fs::exists(file, error) && !fs::is_regular_file(file, error);
  if (::access(special ? file.c_str() : folder.c_str(), W_OK) != 0)
    throw UsageError(fmt::format("{}: may not be written", file));
}

}  // namespace assay::tools
