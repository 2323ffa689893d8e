// A call of the candidate interface, read with checks. Whatever an operation cannot take is an Unsupported that names
// the tensor or attribute, what was found and what was wanted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string_view>

#include "harness/abi/assay_candidate.h"

namespace assay::gpu {

struct Unsupported : std::runtime_error {
  using runtime_error::runtime_error;
};

enum class Element { float32, bfloat16 };
std::size_t size_of(Element element);

// A tensor seen as rows of `width` neighbouring elements that lie `stride` elements apart.
struct Rows {
  std::int64_t rows, width, stride;
  Element element;
  void* data;  // null while the harness is still asking

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

class Call {
 public:
  explicit Call(const assay_call& call) : call_(call) {}

  std::string_view op() const { return call_.op; }
  void* workspace() const { return call_.workspace; }

  // Nothing else may be in the call: an argument that is not understood must not be ignored.
  void accept_only(std::span<const std::string_view> attributes, std::span<const std::string_view> tensors) const;
  void accept_only(std::initializer_list<std::string_view> attributes,
                   std::initializer_list<std::string_view> tensors) const {
    accept_only(std::span(attributes.begin(), attributes.size()), std::span(tensors.begin(), tensors.size()));
  }

  float float_attribute(std::string_view name) const;
  std::int64_t int_attribute(std::string_view name) const;
  std::string_view string_attribute(std::string_view name) const;

  bool has(std::string_view tensor) const { return find(tensor) != nullptr; }
  // The sizes of a tensor's axes; it must have `rank` of them.
  std::span<const std::int64_t> axes(std::string_view tensor, int rank) const;
  // A compact int32 tensor of this shape; null if the call has none, or while the harness is still asking.
  const std::int32_t* int32_data(std::string_view tensor, std::initializer_list<std::int64_t> shape) const;
  // Any view whose last axis is contiguous and whose leading axes have one common row stride.
  Rows strided_rows(std::string_view tensor) const;
  // [.., width] like `model`, compact.
  Rows compact_rows(std::string_view tensor, const Rows& model) const;
  int rank(std::string_view tensor) const;
  // A tensor of this shape whose first `leading` axes have one common row stride, the others being compact inside it: a
  // row for each index of the leading ones.
  Rows rows_of(std::string_view tensor, std::initializer_list<std::int64_t> shape, int leading) const;
  Rows batch_rows(std::string_view tensor, std::initializer_list<std::int64_t> shape) const {
    return rows_of(tensor, shape, 1);
  }
  // A compact tensor of this shape, seen as one row.
  Rows compact(std::string_view tensor, std::initializer_list<std::int64_t> shape) const;
  // [width], compact, as one row.
  Rows vector(std::string_view tensor, std::int64_t width) const;
  // The opaque bytes between forward and backward; null if the call has none. Throws std::invalid_argument unless they
  // are `bytes` long.
  void* saved(std::size_t bytes) const;

 private:
  const DLTensor* find(std::string_view tensor) const;
  const DLTensor& get(std::string_view tensor) const;
  const assay_attribute& attribute(std::string_view name) const;

  const assay_call& call_;
};

// Throw Unsupported naming the tensor unless it has the rows and the width of `model`.
void require_same_rows(std::string_view tensor, const Rows& rows, const Rows& model);

// Throw Unsupported naming the tensor unless it has the wanted element type, or that or float32.
void require_element(std::string_view tensor, const Rows& rows, Element wanted);
void require_element_or_float32(std::string_view tensor, const Rows& rows, Element wanted);

}  // namespace assay::gpu
