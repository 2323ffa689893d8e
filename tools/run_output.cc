#include "tools/run_output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <functional>
#include <thread>
#include <utility>

#include "harness/report/json_report.h"
#include "harness/report/junit.h"
#include "harness/report/table.h"
#include "tools/cli.h"

namespace assay::tools {
namespace {

int signal_pipe[2] = {-1, -1};

extern "C" void on_signal(int) {
  const int saved = errno;
  const char byte = 's';
  [[maybe_unused]] const ssize_t written = ::write(signal_pipe[1], &byte, 1);
  errno = saved;
}

}  // namespace

// The handler writes into a pipe and a thread reads from it, so the reports are written outside the handler. No signal
// is blocked, and handlers do not survive exec: the workers take Ctrl-C as they like.
struct RunOutput::Signals {
  explicit Signals(std::function<void()> action) {
    if (::pipe2(signal_pipe, O_CLOEXEC) != 0) return;  // then Ctrl-C ends the program, and no more
    thread = std::thread([action = std::move(action)] {
      char byte = 0;
      ssize_t n = 0;
      while ((n = ::read(signal_pipe[0], &byte, 1)) < 0 && errno == EINTR) {
      }
      if (n == 1 && byte == 's') action();
    });
    struct sigaction handler {};
    handler.sa_handler = on_signal;
    handler.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);  // the second one ends the program at once
    ::sigaction(SIGINT, &handler, &old_interrupt);
    ::sigaction(SIGTERM, &handler, &old_terminate);
  }
  ~Signals() {
    if (!thread.joinable()) return;
    ::sigaction(SIGINT, &old_interrupt, nullptr);
    ::sigaction(SIGTERM, &old_terminate, nullptr);
    const char byte = 'q';
    [[maybe_unused]] const ssize_t written = ::write(signal_pipe[1], &byte, 1);
    thread.join();
    ::close(signal_pipe[0]);
    ::close(signal_pipe[1]);
  }
  std::thread thread;
  struct sigaction old_interrupt {
  }, old_terminate{};
};

RunOutput::RunOutput(harness::RunResult head, ReportFiles files)
    : so_far_(std::move(head)),
      files_(std::move(files)),
      progress_(harness::text_style(STDERR_FILENO), [](const std::string& text) {
        std::fwrite(text.data(), 1, text.size(), stderr);
        std::fflush(stderr);
      }) {
  require_writable(files_.json);
  require_writable(files_.junit);
  so_far_.seconds = -harness::Progress::steady_seconds();
  signals_ = std::make_unique<Signals>([this] { interrupted(); });
}

RunOutput::~RunOutput() = default;

void RunOutput::add(const harness::CaseResult& result, std::size_t done, std::size_t total) {
  const std::lock_guard lock(mutex_);
  so_far_.cases.push_back(result);
  total_ = total;
  progress_(result, done, total);
}

int RunOutput::finish(const harness::RunResult& run) {
  const std::lock_guard lock(mutex_);
  finished_ = true;
  progress_.finish();
  return write(run);
}

void RunOutput::interrupted() {
  const std::lock_guard lock(mutex_);  // held to the end: no case is added any more
  if (finished_) return;
  progress_.finish();
  so_far_.seconds += harness::Progress::steady_seconds();
  const std::string text = fmt::format("interrupted after {} of {} cases", so_far_.cases.size(), total_);
  so_far_.notes.push_back(text);
  so_far_.trust.push_back({"all", "all", "all", harness::Trust::inconclusive, text, 0, 0});  // part of a run is no pass
  write(so_far_);
  std::fflush(nullptr);
  ::_exit(kInterrupted);
}

int RunOutput::write(const harness::RunResult& run) const {
  int code = run.exit_code() == 0 ? kPassed : kNotPassed;
  const auto attempt = [&](const std::string& file, const auto& writer) {
    if (file.empty()) return;
    try {
      writer(run, file);
    } catch (const std::exception& error) {
      fmt::print(stderr, "assay: {}\n", error.what());
      code = kUsage;
    }
  };
  attempt(files_.json, harness::write_json);
  attempt(files_.junit, harness::write_junit);
  harness::TableOptions options;
  options.style = harness::text_style(STDOUT_FILENO);
  fmt::print("{}", harness::table(run, options));
  return code;
}

}  // namespace assay::tools
