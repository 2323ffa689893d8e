// Tensor: an owning, row-major array. The whole reference computes on these; 2-D views of them are Eigen maps.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "reference/large_memory.h"

namespace assay::reference {

using Index = std::int64_t;
using Shape = std::vector<Index>;

inline Index element_count(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), Index{1}, std::multiplies<>());
}

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Memory as large_memory.h gives it; resize() leaves new elements uninitialized: an output that is written anyway is not
// filled first.
template <class T>
struct UninitializedAllocator : std::allocator<T> {
  template <class U>
  struct rebind {
    using other = UninitializedAllocator<U>;
  };
  T* allocate(std::size_t n) { return static_cast<T*>(allocate_memory(n * sizeof(T))); }
  void deallocate(T* p, std::size_t n) { free_memory(p, n * sizeof(T)); }
  template <class U>
  void construct(U* p) noexcept {
    ::new (static_cast<void*>(p)) U;
  }
  template <class U, class... Args>
  void construct(U* p, Args&&... args) {
    ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
  }
};

template <class T>
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(Shape shape, T value = T{}) : shape_(std::move(shape)), data_(element_count(shape_), value) {}
  Tensor(Shape shape, const std::vector<T>& data) : shape_(std::move(shape)), data_(data.begin(), data.end()) {
    if (element_count(shape_) != size()) throw std::invalid_argument("Tensor: data does not fill the shape");
  }
  // For a tensor whose every element is about to be written.
  static Tensor uninitialized(Shape shape) {
    Tensor t;
    t.data_.resize(element_count(shape));
    t.shape_ = std::move(shape);
    return t;
  }

  const Shape& shape() const { return shape_; }
  Index dim(Index axis) const { return shape_.at(axis < 0 ? axis + shape_.size() : axis); }
  Index rank() const { return static_cast<Index>(shape_.size()); }
  Index size() const { return static_cast<Index>(data_.size()); }
  bool empty() const { return data_.empty(); }

  T* data() { return data_.data(); }
  const T* data() const { return data_.data(); }
  std::span<T> span() { return data_; }
  std::span<const T> span() const { return data_; }
  T& operator[](Index i) { return data_[i]; }
  const T& operator[](Index i) const { return data_[i]; }

  // Elements by index: t(b, s, h). As many indices as axes.
  template <class... I>
  T& operator()(I... index) { return data_[offset(index...)]; }
  template <class... I>
  const T& operator()(I... index) const { return data_[offset(index...)]; }

  // The tensor seen as [rows, size / rows], row-major.
  Eigen::Map<Matrix<T>> matrix(Index rows) { return {data(), rows, rows == 0 ? 0 : size() / rows}; }
  Eigen::Map<const Matrix<T>> matrix(Index rows) const { return {data(), rows, rows == 0 ? 0 : size() / rows}; }

  // The same elements under another shape of the same size.
  Tensor reshaped(Shape shape) const& { return Tensor(*this).reshaped(std::move(shape)); }
  Tensor reshaped(Shape shape) && {
    if (element_count(shape) != size()) throw std::invalid_argument("Tensor::reshaped: the new shape has another size");
    shape_ = std::move(shape);
    return std::move(*this);
  }

 private:
  template <class... I>
  Index offset(I... index) const {
    Index flat = 0, axis = 0;
    ((flat = flat * shape_[axis++] + static_cast<Index>(index)), ...);
    return flat;
  }
  Shape shape_;
  std::vector<T, UninitializedAllocator<T>> data_;
};

// A tensor that may be absent (null). T is deduced from the other arguments.
template <class T>
using MaybeTensor = std::type_identity_t<const Tensor<T>*>;

}  // namespace assay::reference
