#include "harness/worker/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string_view>

extern char** environ;

namespace assay::harness {
namespace {

void require_zero(int code, const char* what) {
  if (code != 0) throw std::runtime_error(fmt::format("worker process: {}: {}", what, std::strerror(code)));
}

class FileActions {
 public:
  FileActions() { require_zero(posix_spawn_file_actions_init(&actions_), "posix_spawn_file_actions_init"); }
  ~FileActions() { posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

class SpawnAttributes {
 public:
  // Default signal handling, nothing blocked, a new process group.
  SpawnAttributes() {
    require_zero(posix_spawnattr_init(&attributes_), "posix_spawnattr_init");
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnAttributes() { posix_spawnattr_destroy(&attributes_); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  posix_spawnattr_t* get() { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const std::string& s : strings) result.push_back(const_cast<char*>(s.c_str()));
  result.push_back(nullptr);
  return result;
}

// This process's environment, with the variables of `added` in place of its own.
std::vector<std::string> merged_environment(const std::vector<std::string>& added) {
  std::vector<std::string> result = added;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view variable(*entry);
    const std::string_view name = variable.substr(0, variable.find('=') + 1);
    bool replaced = false;
    for (const std::string& a : added) replaced = replaced || a.starts_with(name);
    if (!replaced) result.emplace_back(variable);
  }
  return result;
}

}  // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

void Fd::reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

Process::Process(const std::vector<std::string>& arguments, const std::vector<int>& inherited,
                 const std::vector<std::string>& environment) {
  // First out of the way of the numbers they shall have in the child.
  std::vector<Fd> sources;
  for (const int fd : inherited) {
    sources.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(inherited.size())));
    if (!sources.back().valid()) require_zero(errno, "fcntl");
  }
  FileActions actions;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    require_zero(posix_spawn_file_actions_adddup2(actions.get(), sources[i].get(), static_cast<int>(i)), "adddup2");
  }
  require_zero(posix_spawn_file_actions_addclosefrom_np(actions.get(), static_cast<int>(sources.size())),
               "addclosefrom");
  SpawnAttributes attributes;
  const std::vector<std::string> variables = merged_environment(environment);
  const int code = posix_spawn(&pid_, arguments.at(0).c_str(), actions.get(), attributes.get(),
                               pointers(arguments).data(), pointers(variables).data());
  if (code != 0) {
    pid_ = -1;
    throw std::runtime_error(fmt::format("{}: cannot be started: {}", arguments[0], std::strerror(code)));
  }
}

Process::Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    end();
    pid_ = std::exchange(other.pid_, -1);
  }
  return *this;
}

bool Process::has_died() const {
  siginfo_t info{};
  const int code = waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
  return (code == 0 && info.si_pid == pid_) || (code != 0 && errno == ECHILD);
}

std::string Process::end(std::optional<int>* exit_code) {
  if (pid_ <= 0) return "";
  const pid_t pid = std::exchange(pid_, -1);
  kill(pid, SIGKILL);   // before the group exists the child may still be on its way into it
  kill(-pid, SIGKILL);  // its number cannot be another's: the child has not been reaped yet
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return "ended";  // somebody ignores SIGCHLD, so its end is not told
  }
  if (WIFEXITED(status)) {
    if (exit_code) *exit_code = WEXITSTATUS(status);
    return fmt::format("exited with code {}", WEXITSTATUS(status));
  }
  const int signal = WTERMSIG(status);
  const char* abbreviation = sigabbrev_np(signal);
  const char* description = sigdescr_np(signal);
  return fmt::format("died of signal {} (SIG{}, {})", signal, abbreviation ? abbreviation : "?",
                     description ? description : "unknown");
}

std::size_t Process::resident_bytes() const {
  const std::string path = fmt::format("/proc/{}/statm", pid_);
  const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[128] = {};
  if (!file.valid() || read(file.get(), text, sizeof text - 1) <= 0) return 0;
  unsigned long long size = 0, resident = 0;
  if (std::sscanf(text, "%llu %llu", &size, &resident) != 2) return 0;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace assay::harness
