// A hash of the bits of results.
#pragma once

#include <cstdint>
#include <cstring>

#include "reference/tensor.h"

namespace assay::reference::testing {

class Hash {  // FNV-1a
 public:
  template <class T>
  Hash& add(const T* data, Index count) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < count * sizeof(T); ++i) value_ = (value_ ^ bytes[i]) * 0x100000001b3u;
    return *this;
  }
  template <class T>
  Hash& add(const Tensor<T>& t) {
    return add(t.data(), t.size());
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace assay::reference::testing
