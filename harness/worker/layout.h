// Where the elements of a possibly strided tensor lie in its storage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace assay::harness {

// A stretch of elements that are contiguous both in the storage and in the row-major compact order.
struct Run {
  std::size_t storage = 0;  // byte offset from the tensor's first element
  std::size_t compact = 0;  // byte offset in the compact order
  std::size_t bytes = 0;
};

class Layout {
 public:
  Layout() = default;
  // Strides count elements and are not negative.
  Layout(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides, std::size_t element_bytes);

  std::size_t element_bytes() const { return element_bytes_; }
  std::size_t elements() const { return compact_bytes_ / element_bytes_; }
  std::size_t compact_bytes() const { return compact_bytes_; }
  std::size_t storage_bytes() const { return storage_bytes_; }  // first to last element, gaps included
  bool is_one_run() const { return outer_.empty(); }            // row-major without gaps

  template <class F>
  void for_each_run(F&& f) const;
  void scatter(const std::byte* compact, std::byte* storage) const;  // gaps stay as they are
  void gather(const std::byte* storage, std::byte* compact) const;

 private:
  struct Axis {
    std::size_t extent = 0, stride_bytes = 0;
  };
  std::vector<Axis> outer_;  // outermost first; everything inside is one run
  std::size_t element_bytes_ = 1, run_bytes_ = 1, compact_bytes_ = 1, storage_bytes_ = 1;
};

template <class F>
void Layout::for_each_run(F&& f) const {
  if (compact_bytes_ == 0) return;
  if (outer_.empty()) return f(Run{0, 0, run_bytes_});
  std::vector<std::size_t> index(outer_.size(), 0);
  Run run{0, 0, run_bytes_};
  for (;;) {
    f(run);
    run.compact += run_bytes_;
    std::size_t axis = outer_.size();
    for (;;) {  // an odometer: step the innermost axis that is not at its end
      if (axis-- == 0) return;
      run.storage += outer_[axis].stride_bytes;
      if (++index[axis] < outer_[axis].extent) break;
      run.storage -= outer_[axis].extent * outer_[axis].stride_bytes;
      index[axis] = 0;
    }
  }
}

}  // namespace assay::harness
