// assay doctor: what this machine can run, and what to install.
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <sstream>

#include "harness/io/file.h"
#include "harness/worker/client.h"
#include "tools/cli.h"

namespace assay::tools {
namespace {

namespace fs = std::filesystem;

void line(const char* mark, const char* what, const std::string& found, const std::string& remedy = "") {
  fmt::print("{:<8} {:<12} {}{}{}\n", mark, what, found, remedy.empty() ? "" : "; ", remedy);
}

std::string file_text(const fs::path& file) {
  std::FILE* stream = std::fopen(file.c_str(), "r");  // /proc has no sizes
  std::string text(1 << 16, '\0');
  text.resize(stream ? std::fread(text.data(), 1, text.size(), stream) : 0);
  if (stream) std::fclose(stream);
  return text;
}

// The value behind "key ... : " in a file of such lines.
std::string proc_value(const fs::path& file, std::string_view key) {
  std::istringstream lines(file_text(file));
  for (std::string row; std::getline(lines, row);) {
    const auto colon = row.find(':');
    if (row.starts_with(key) && colon != std::string::npos) {
      const auto begin = row.find_first_not_of(" \t", colon + 1);
      return begin == std::string::npos ? "" : row.substr(begin);
    }
  }
  return "";
}

bool check_cpu() {
  std::string missing;
  const auto want = [&](bool there, const char* feature) {
    if (!there) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", feature);
  };
  want(__builtin_cpu_supports("avx2"), "avx2");
  want(__builtin_cpu_supports("fma"), "fma");
  want(__builtin_cpu_supports("bmi"), "bmi");
  want(__builtin_cpu_supports("bmi2"), "bmi2");
  const std::string model = proc_value("/proc/cpuinfo", "model name");
  line(missing.empty() ? "ok" : "MISSING", "CPU", model.empty() ? "of unknown name" : model,
       missing.empty() ? "" : "needs x86-64-v3, lacks " + missing);
  return missing.empty();
}

void check_cores_and_memory() {
  cpu_set_t cores;
  const int usable = ::sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
  line("ok", "cores", fmt::format("{}; verify runs that many workers at a time", usable));
  const double page = static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 30);
  const double total = page * static_cast<double>(::sysconf(_SC_PHYS_PAGES));
  const double available = page * static_cast<double>(::sysconf(_SC_AVPHYS_PAGES));
  std::string text = fmt::format("{:.1f} GiB, {:.1f} of them free", total, available);
  const std::string limit = file_text("/sys/fs/cgroup/memory.max");
  if (!limit.empty() && limit[0] != 'm')
    text += fmt::format(", limited to {:.1f}", std::atof(limit.c_str()) / (1 << 30));
  line(total < 2 ? "few" : "ok", "memory", text, total < 2 ? "use --jobs 1" : "");
}

// Loads a candidate of ours as verify would.
bool check_candidate(const char* name, const char* preset, bool required) {
  const fs::path library = library_path(fmt::format("assay_{}", name));
  const std::string build = fmt::format("build it: cmake --preset {0} && cmake --build --preset {0}", preset);
  if (!fs::exists(library)) {
    line(required ? "MISSING" : "no", name, library.string() + " is not there", build);
    return !required;
  }
  try {
    harness::WorkerOptions options;
    options.worker = worker_path();
    options.candidate = library;
    const harness::Worker worker(std::move(options));
    line("ok", name,
         fmt::format("{} on {}, {} thread schedules", worker.info().name, worker.info().target,
                     worker.info().schedules.size()));
    return true;
  } catch (const harness::NoDevice& error) {
    line("no", name, error.what());
  } catch (const std::exception& error) {
    line(required ? "BROKEN" : "no", name, error.what());
  }
  return !required;
}

std::optional<fs::path> find_program(const char* program, std::vector<std::string> folders) {
  std::istringstream path(std::getenv("PATH") ? std::getenv("PATH") : "");
  for (std::string folder; std::getline(path, folder, ':');) folders.push_back(folder);
  for (const std::string& folder : folders)
    if (!folder.empty() && ::access((fs::path(folder) / program).c_str(), X_OK) == 0) return fs::path(folder) / program;
  return {};
}

void check_gpu() {
  const fs::path gpus = "/proc/driver/nvidia/gpus";
  std::error_code error;
  bool any = false;
  for (const auto& gpu : fs::directory_iterator(gpus, error)) {
    line("ok", "GPU", proc_value(gpu.path() / "information", "Model"));
    any = true;
  }
  if (!any) line("no", "GPU", "no NVIDIA driver or device here", "kernels run on the CPU executor, timings need a GPU");
  const auto nvcc = find_program("nvcc", {fs::path(ASSAY_SOURCE_FOLDER) / "build/cuda/bin", "/usr/local/cuda/bin"});
  if (nvcc)
    line("ok", "nvcc", nvcc->string());
  else
    line("no", "nvcc", "not found", "tools/setup.sh fetches it; only the cuda preset needs it");
}

int doctor_command() {
  const bool cpu = check_cpu();
  check_cores_and_memory();
  std::error_code error;
  const bool worker = fs::exists(worker_path(), error);
  line(worker ? "ok" : "MISSING", "worker", worker_path().string(),
       worker ? "" : "build it: cmake --preset release && cmake --build --preset release");
  const bool simt = worker && check_candidate("simt", "release", true);
  if (worker) check_candidate("cuda", "cuda", false);
  check_gpu();
  const bool able = cpu && worker && simt;
  fmt::print("{}\n", able ? "This machine can verify: assay verify"
                          : "This machine cannot verify yet: see what is MISSING or BROKEN.");
  return able ? kPassed : kNotPassed;
}

}  // namespace

void add_doctor(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("doctor", "What this machine can run, and what to install");
  command->footer("Exit code: 0 if it can verify, else 1.\nExamples:\n  assay doctor\n  assay doctor && assay verify");
  command->callback([&exit_code] { exit_code = doctor_command(); });
}

}  // namespace assay::tools
