// assay: the command line. One file per subcommand; this one holds them together and turns errors into exit codes.
#include <fmt/core.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "tools/cli.h"

namespace assay::tools {
namespace {

// The subcommand that was being parsed, however deep: "assay golden check".
const CLI::App* innermost(const CLI::App& app) {
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  return command;
}

std::string full_name(const CLI::App& command) {
  return command.get_parent() ? full_name(*command.get_parent()) + " " + command.get_name() : command.get_name();
}

std::vector<std::string> known_words(const CLI::App& command, bool options) {
  std::vector<std::string> words;
  if (options) {
    for (const CLI::Option* option : command.get_options())
      for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  } else {
    for (const CLI::App* sub : command.get_subcommands({})) words.push_back(sub->get_name());
  }
  return words;
}

// CLI11's message, with near misses for an argument that nobody expects.
std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = *innermost(app);
  std::string what = error.what();
  if (const auto end = what.find('\n'); end != std::string::npos) what.resize(end);
  for (const CLI::App* at = &command; at; at = at->get_parent())
    for (const std::string& word : at->remaining()) {
      return fmt::format("{}: unknown {} \"{}\"{}; see {} --help", full_name(command),
                         word.starts_with("-") ? "option" : "argument", word.substr(0, 100),
                         did_you_mean(word, known_words(command, word.starts_with("-"))), full_name(command));
    }
  return fmt::format("{}: {}; see {} --help", full_name(command), what, full_name(command));
}

int fail(const std::string& text) {
  std::fflush(stdout);
  fmt::print(stderr, "{}\n", text);
  return kUsage;
}

int run(int argc, char** argv) {
  int exit_code = kUsage;
  CLI::App app("Trusted verification of GPU kernels for hybrid Mamba-Transformer models.", "assay");
  app.set_version_flag("--version", "assay " ASSAY_VERSION);
  app.require_subcommand(1);
  const auto help = std::make_shared<ShortHelp>();
  help->column_width(26);
  app.formatter(help);
  app.footer(fmt::format("{}\n\nExamples:\n  assay verify rms_norm\n  assay verify --candidate ./libmine.so dtype=bf16",
                         kExitCodes));
  add_verify(app, exit_code);
  add_list(app, exit_code);
  add_golden(app, exit_code);
  add_report(app, exit_code);
  add_candidate(app, exit_code);
  add_doctor(app, exit_code);
  if (argc <= 1) {
    fmt::print("{}", app.help());
    return kUsage;
  }
  try {
    app.parse(argc, argv);
    return exit_code;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return fail(explain(app, error));
  } catch (const std::bad_alloc&) {
    return fail(full_name(*innermost(app)) + ": out of memory; try fewer --jobs or a smaller file");
  } catch (const std::exception& error) {
    return fail(fmt::format("{}: {}", full_name(*innermost(app)), error.what()));
  }
}

}  // namespace
}  // namespace assay::tools

int main(int argc, char** argv) {
  try {
    return assay::tools::run(argc, argv);
  } catch (const std::exception& error) {  // a full disk under stdout, say
    std::fprintf(stderr, "assay: %s\n", error.what());
    return assay::tools::kUsage;
  }
}
