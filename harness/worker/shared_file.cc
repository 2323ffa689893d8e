#include "harness/worker/shared_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace assay::harness {
namespace {
[[noreturn]] void fail(const char* what, std::size_t bytes) {
  throw std::runtime_error(
      fmt::format("shared memory with the worker: {}: {} bytes: {}", what, bytes, std::strerror(errno)));
}
}  // namespace

SharedFile::SharedFile(std::size_t bytes) : fd_(memfd_create("assay-worker", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
  if (!fd_.valid()) fail("memfd_create", bytes);
  if (fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) != 0) fail("F_ADD_SEALS", bytes);
  grow(bytes);
}

SharedFile::~SharedFile() {
  if (data_) munmap(data_, bytes_);
}

void SharedFile::grow(std::size_t bytes) {
  if (bytes <= bytes_) return;
  if (ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0) fail("ftruncate", bytes);
  void* const mapped = data_ ? mremap(data_, bytes_, bytes, MREMAP_MAYMOVE)
                             : mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (mapped == MAP_FAILED) fail("mmap", bytes);
  data_ = static_cast<std::byte*>(mapped);
  bytes_ = bytes;
}

void SharedFile::give_back_memory() {
  fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes_));
}

}  // namespace assay::harness
