// A child process in a process group of its own, ended and reaped without fail.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace assay::harness {

// An owned file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

class Process {
 public:
  Process() = default;
  // Spawns `arguments[0]`. The child's descriptors 0 .. inherited.size() - 1 are the given ones, all others are closed;
  // `environment` is added to this process's. Throws std::runtime_error.
  Process(const std::vector<std::string>& arguments, const std::vector<int>& inherited,
          const std::vector<std::string>& environment);
  ~Process() { end(); }
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;

  bool running() const { return pid_ > 0; }
  // True once the child has died; it is still there to be reaped.
  bool has_died() const;
  // Kills the whole group if need be, and reaps. Says how the child ended: "exited with code 3", "died of signal 11
  // (SIGSEGV, Segmentation fault)"; empty if it was not running. `exit_code` is set if it ended by itself.
  std::string end(std::optional<int>* exit_code = nullptr);
  // Resident bytes; 0 if unknown.
  std::size_t resident_bytes() const;

 private:
  pid_t pid_ = -1;
};

}  // namespace assay::harness
