// The shared file: anonymous memory that parent and worker both map.
#pragma once

#include <cstddef>

#include "harness/worker/process.h"

namespace assay::harness {

class SharedFile {
 public:
  // Throws std::runtime_error, as grow does. The file is sealed against shrinking: a worker that truncates it would
  // otherwise make the parent die of SIGBUS.
  explicit SharedFile(std::size_t bytes);
  ~SharedFile();
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;

  void grow(std::size_t bytes);  // never shrinks; data() may move
  void give_back_memory();       // drops the content and its pages, keeps the size
  int fd() const { return fd_.get(); }
  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 private:
  Fd fd_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace assay::harness
