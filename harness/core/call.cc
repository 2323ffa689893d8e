#include "harness/core/call.h"

#include <algorithm>
#include <stdexcept>

namespace assay::harness {

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    if (extent < 0) throw std::invalid_argument("element_count: shape " + to_string(shape) + "; want no negative axis");
    if (__builtin_mul_overflow(count, extent, &count)) {
      throw std::invalid_argument("element_count: shape " + to_string(shape) + "; want fewer than 2^63 elements");
    }
  }
  return count;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (axis > 0) text += ", ";
    text += std::to_string(shape[axis]);
  }
  return text + "]";
}

std::vector<double> HostTensor::to_double() const {
  std::vector<double> values(static_cast<std::size_t>(size()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = at(static_cast<std::int64_t>(i));
  return values;
}

HostTensor make_tensor(std::string name, Role role, DType dtype, Shape shape) {
  HostTensor tensor{
      .name = std::move(name), .role = role, .dtype = dtype, .shape = std::move(shape), .strides = {}, .bytes = {}};
  tensor.bytes.resize(static_cast<std::size_t>(tensor.size()) * size_of(dtype));
  return tensor;
}

const HostTensor* Call::find(std::string_view name) const {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const HostTensor& t) { return t.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

const HostTensor& Call::tensor(std::string_view name) const {
  if (const HostTensor* found = find(name)) return *found;
  throw std::out_of_range(op + ": no tensor " + std::string(name) + " in this call");
}

HostTensor& Call::tensor(std::string_view name) { return const_cast<HostTensor&>(std::as_const(*this).tensor(name)); }

namespace {
const AttributeValue& attribute(const Call& call, std::string_view name) {
  for (const auto& [key, value] : call.attributes) {
    if (key == name) return value;
  }
  throw std::out_of_range(call.op + ": no attribute " + std::string(name) + " in this call");
}

[[noreturn]] void wrong_kind(const Call& call, std::string_view name, const char* wanted) {
  throw std::out_of_range(call.op + ": attribute " + std::string(name) + " is not " + wanted);
}
}  // namespace

double Call::number(std::string_view name) const {
  const AttributeValue& value = attribute(*this, name);
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  if (const auto* real = std::get_if<double>(&value)) return *real;
  wrong_kind(*this, name, "a number");
}

std::int64_t Call::integer(std::string_view name) const {
  const AttributeValue& value = attribute(*this, name);
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  wrong_kind(*this, name, "an integer");
}

}  // namespace assay::harness
