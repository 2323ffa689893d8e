// Ahead: rows of memory that are wanted soon. Asked for a few cache lines at a time, they come while the core computes.
#pragma once

#include "reference/tensor.h"

namespace assay::reference {

template <class T>
class Ahead {
 public:
  Ahead() = default;  // nothing
  Ahead(const T* data, Index rows, Index row_size, Index stride) : data_(data), rows_(rows), row_size_(row_size), stride_(stride) {}
  Index lines() const { return rows_ * ((row_size_ + kLine - 1) / kLine); }
  void fetch(Index lines) {
    for (; lines > 0 && row_ < rows_; --lines) {
      __builtin_prefetch(data_ + row_ * stride_ + column_, 0, 2);  // into the L2 cache
      column_ += kLine;
      if (column_ >= row_size_) column_ = 0, ++row_;
    }
  }

 private:
  static constexpr Index kLine = kCacheLine / sizeof(T);
  const T* data_ = nullptr;
  Index rows_ = 0, row_size_ = 0, stride_ = 0, row_ = 0, column_ = 0;
};

}  // namespace assay::reference
