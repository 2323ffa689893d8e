// For the executor's own tests: typed device buffers, and the text of the error that a launch throws.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cuda/simt/executor.h"

namespace simt::testing {

template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t count) : count_(count), data_(static_cast<T*>(device_alloc(count * sizeof(T)))) {}
  explicit Buffer(const std::vector<T>& host) : Buffer(host.size()) { upload(host); }
  ~Buffer() { device_free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  operator T*() const { return data_; }
  void upload(const std::vector<T>& host) { device_upload(data_, host.data(), host.size() * sizeof(T)); }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    device_download(values.data(), data_, count_ * sizeof(T));
    return values;
  }

 private:
  std::size_t count_;
  T* data_;
};

// Empty if nothing is thrown.
template <class Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

// Calls check() under each of the four schedules.
template <class Function>
void for_each_schedule(Function check, std::uint64_t seed = 1) {
  for (std::size_t i = 0; i < schedules().size(); ++i) {
    set_schedule(i, seed);
    check();
  }
  set_schedule(0, 1);
}

}  // namespace simt::testing
