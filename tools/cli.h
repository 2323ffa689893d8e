// What the subcommands of `assay` share.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace assay::tools {

inline constexpr int kPassed = 0, kNotPassed = 1, kUsage = 2, kInterrupted = 130;
inline constexpr const char* kExitCodes = "Exit code: 0 passed, 1 not passed, 2 bad usage or input, 130 interrupted.";

// CLI11's help, fit for a screen of 24 lines: blank lines go where it is longer.
class ShortHelp : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
};

// Wrong arguments, or input that cannot be used: one line for a person; exit code 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Each adds its subcommand, whose callback sets `exit_code`.
void add_list(CLI::App& app, int& exit_code);
void add_verify(CLI::App& app, int& exit_code);
void add_golden(CLI::App& app, int& exit_code);
void add_report(CLI::App& app, int& exit_code);
void add_candidate(CLI::App& app, int& exit_code);
void add_doctor(CLI::App& app, int& exit_code);

// Beside this program: bin/assay, bin/assay_worker, lib/libassay_simt.so, and share/assay with what Assay needs at run
// time (the checkout itself, for a program in its build folder).
std::filesystem::path worker_path();
std::filesystem::path library_path(std::string_view name);   // "assay_simt"
std::filesystem::path data_path(std::string_view relative);  // "golden/presets"; throws UsageError if it is not there

// "; did you mean "verify"?" for the known words within a few edits of `word`, else "".
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

// Folders become their *.json files, sorted. Throws UsageError for a path that is not there or a folder without any.
std::vector<std::filesystem::path> expand_json_files(const std::vector<std::string>& paths);

// Before a long run: throws UsageError if `file`, empty or the name of a report, cannot be written there.
void require_writable(const std::string& file);

}  // namespace assay::tools
