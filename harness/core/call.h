// A call of one operation as the parent process holds it: attributes and named tensors in host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "harness/abi/assay_candidate.h"
#include "harness/core/dtype.h"

namespace assay::harness {

using Shape = std::vector<std::int64_t>;
std::int64_t element_count(const Shape& shape);
std::string to_string(const Shape& shape);  // "[2, 5, 32]"

enum class Role {
  in = ASSAY_ROLE_IN,
  out = ASSAY_ROLE_OUT,
  inout = ASSAY_ROLE_INOUT,
  saved = ASSAY_ROLE_SAVED,
  tap = ASSAY_ROLE_TAP
};

// A named tensor. `bytes` holds its elements row-major and compact, whatever the strides are: strides say how the
// candidate sees it (elements between neighbours along each axis), and the worker lays it out so.
struct HostTensor {
  std::string name;
  Role role = Role::in;
  DType dtype = DType::float32;
  Shape shape;
  Shape strides;  // empty: compact
  std::vector<std::byte> bytes;
  std::vector<std::byte> before = {};  // of an `inout` tensor whose call has run: the bytes that it started from

  std::int64_t size() const { return element_count(shape); }
  double at(std::int64_t i) const { return load(dtype, bytes.data() + i * size_of(dtype)); }
  void set(std::int64_t i, double v) { store(dtype, bytes.data() + i * size_of(dtype), v); }
  std::vector<double> to_double() const;
};
HostTensor make_tensor(std::string name, Role role, DType dtype, Shape shape);

using AttributeValue = std::variant<std::int64_t, double, std::string>;
using Attributes = std::vector<std::pair<std::string, AttributeValue>>;

struct Call {
  std::string op;  // "rms_norm.forward"
  Attributes attributes;
  std::vector<HostTensor> tensors;

  const HostTensor* find(std::string_view name) const;
  // Throws std::out_of_range naming the operation and the tensor or attribute.
  const HostTensor& tensor(std::string_view name) const;
  HostTensor& tensor(std::string_view name);
  double number(std::string_view attribute) const;
  std::int64_t integer(std::string_view attribute) const;
};

}  // namespace assay::harness
