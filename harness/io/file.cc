#include "harness/io/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

namespace assay::harness {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void fail(const std::filesystem::path& file, const std::string& what) {
  throw FileError(file.string() + ": " + what);
}
[[noreturn]] void fail_errno(const std::filesystem::path& file, const std::string& what) {
  fail(file, what + ": " + std::strerror(errno));
}

void write_all(int fd, std::string_view text, const std::filesystem::path& file) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(file, "cannot write");
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

// Removes the temporary file unless it was renamed.
struct Temporary {
  std::filesystem::path path;
  ~Temporary() {
    if (!path.empty()) ::unlink(path.c_str());
  }
};

std::filesystem::path temporary_name(const std::filesystem::path& file) {
  static std::atomic<int> count = 0;
  return file.parent_path() / fmt::format(".{}.{}.{}.tmp", file.filename().string(), ::getpid(), count++);
}

}  // namespace

std::string read_file(const std::filesystem::path& file, std::size_t limit) {
  const Descriptor fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) fail_errno(file, "cannot read");
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) fail_errno(file, "cannot read");
  if (S_ISDIR(info.st_mode)) fail(file, "is a folder; want a file");
  if (!S_ISREG(info.st_mode)) fail(file, "is a device or a pipe; want a regular file");
  if (static_cast<std::size_t>(info.st_size) > limit) {
    fail(file, std::to_string(info.st_size) + " bytes; want at most " + std::to_string(limit));
  }
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(fd.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(file, "cannot read");
    if (n == 0) break;  // shortened while we read
    done += static_cast<std::size_t>(n);
  }
  text.resize(done);
  return text;
}

void write_file(const std::filesystem::path& file, std::string_view text) {
  struct stat info {};
  const bool exists = ::stat(file.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) fail(file, "is a folder; want a file");
  if (exists && !S_ISREG(info.st_mode)) {
    const Descriptor fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
    if (fd.get() < 0) fail_errno(file, "cannot write");
    return write_all(fd.get(), text, file);
  }
  std::error_code error;
  std::filesystem::path target = std::filesystem::weakly_canonical(file, error);  // a link stays a link
  if (error) target = file;
  Temporary temporary{temporary_name(target)};
  {
    const Descriptor fd(::open(temporary.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (fd.get() < 0) {
      temporary.path.clear();
      fail_errno(file, "cannot write into its folder");
    }
    if (exists) ::fchmod(fd.get(), info.st_mode & 07777);
    write_all(fd.get(), text, file);
    if (::fsync(fd.get()) != 0) fail_errno(file, "cannot write");
  }
  if (::rename(temporary.path.c_str(), target.c_str()) != 0) fail_errno(file, "cannot replace");
  temporary.path.clear();
  const std::filesystem::path folder = target.parent_path().empty() ? "." : target.parent_path();
  const Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() >= 0) ::fsync(fd.get());  // the new name, too; some file systems cannot, and need not
}

}  // namespace assay::harness
