#include "cuda/candidate/call.h"

#include <algorithm>
#include <sstream>
#include <string>

namespace assay::gpu {
namespace {

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Unsupported(text.str());
}

std::string list(const std::int64_t* values, int count) {
  std::ostringstream text;
  text << "[";
  for (int i = 0; i < count; ++i) text << (i ? ", " : "") << values[i];
  text << "]";
  return text.str();
}

std::string describe(const DLTensor& t) {
  return "shape " + list(t.shape, t.ndim) + ", strides " + list(t.strides, t.ndim);
}

std::string name_of(DLDataType type) {
  const char* kind = type.code == kDLFloat    ? "float"
                     : type.code == kDLBfloat ? "bfloat"
                     : type.code == kDLInt    ? "int"
                     : type.code == kDLUInt   ? "uint"
                                              : nullptr;
  const std::string bits = std::to_string(type.bits);
  const std::string lanes = type.lanes == 1 ? "" : "x" + std::to_string(type.lanes);
  return (kind ? kind + bits : "DLPack type " + std::to_string(type.code) + " of " + bits + " bits") + lanes;
}

const char* name_of(Element element) { return element == Element::float32 ? "float32" : "bfloat16"; }

Element element_of(std::string_view name, const DLTensor& t) {
  if (t.dtype.lanes == 1 && t.dtype.code == kDLFloat && t.dtype.bits == 32) return Element::float32;
  if (t.dtype.lanes == 1 && t.dtype.code == kDLBfloat && t.dtype.bits == 16) return Element::bfloat16;
  refuse(name, ": ", name_of(t.dtype), "; want float32 or bfloat16");
}

void require_compact(std::string_view name, const DLTensor& t, std::initializer_list<std::int64_t> shape) {
  bool fits = std::equal(t.shape, t.shape + t.ndim, shape.begin(), shape.end());
  std::int64_t inside = 1;  // elements in one step along the axis
  for (int axis = t.ndim - 1; axis >= 0; --axis) {
    fits = fits && (t.shape[axis] <= 1 || inside == 0 || t.strides[axis] == inside);
    inside *= t.shape[axis];
  }
  if (!fits) {
    refuse(name, ": ", describe(t), "; want compact ", list(shape.begin(), static_cast<int>(shape.size())));
  }
}

bool contains(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::size_t size_of(Element element) { return element == Element::float32 ? 4 : 2; }

void Call::accept_only(std::span<const std::string_view> attributes,
                       std::span<const std::string_view> tensors) const {
  for (std::size_t i = 0; i < call_.attribute_count; ++i) {
    const char* name = call_.attributes[i].name;
    if (!contains(attributes, name)) refuse(op(), ": attribute ", name, " is not known here");
  }
  for (std::size_t i = 0; i < call_.tensor_count; ++i) {
    const char* name = call_.tensors[i].name;
    if (!contains(tensors, name)) refuse(op(), ": tensor ", name, " is not known here");
  }
}

const assay_attribute& Call::attribute(std::string_view name) const {
  for (std::size_t i = 0; i < call_.attribute_count; ++i) {
    if (call_.attributes[i].name == name) return call_.attributes[i];
  }
  refuse(op(), ": attribute ", name, " is missing");
}

float Call::float_attribute(std::string_view name) const {
  const assay_attribute& a = attribute(name);
  if (a.kind == ASSAY_ATTRIBUTE_FLOAT) return static_cast<float>(a.float_value);
  if (a.kind == ASSAY_ATTRIBUTE_INT) return static_cast<float>(a.int_value);
  refuse(op(), ": attribute ", name, " is a string; want a number");
}

std::int64_t Call::int_attribute(std::string_view name) const {
  const assay_attribute& a = attribute(name);
  if (a.kind == ASSAY_ATTRIBUTE_INT) return a.int_value;
  refuse(op(), ": attribute ", name, " is not an integer");
}

std::string_view Call::string_attribute(std::string_view name) const {
  const assay_attribute& a = attribute(name);
  if (a.kind == ASSAY_ATTRIBUTE_STRING) return a.string_value;
  refuse(op(), ": attribute ", name, " is not a string");
}

const DLTensor* Call::find(std::string_view tensor) const {
  for (std::size_t i = 0; i < call_.tensor_count; ++i) {
    if (call_.tensors[i].name == tensor) return &call_.tensors[i].tensor;
  }
  return nullptr;
}

const DLTensor& Call::get(std::string_view tensor) const {
  if (const DLTensor* t = find(tensor)) return *t;
  refuse(op(), ": tensor ", tensor, " is missing");
}

std::span<const std::int64_t> Call::axes(std::string_view tensor, int rank) const {
  const DLTensor& t = get(tensor);
  if (t.ndim != rank) refuse(tensor, ": ", describe(t), "; want ", rank, " axes");
  return {t.shape, static_cast<std::size_t>(rank)};
}

const std::int32_t* Call::int32_data(std::string_view tensor, std::initializer_list<std::int64_t> shape) const {
  const DLTensor* t = find(tensor);
  if (t == nullptr) return nullptr;
  if (t->dtype.code != kDLInt || t->dtype.bits != 32 || t->dtype.lanes != 1) {
    refuse(tensor, ": ", name_of(t->dtype), "; want int32");
  }
  require_compact(tensor, *t, shape);
  return static_cast<const std::int32_t*>(t->data);
}

Rows Call::compact(std::string_view tensor, std::initializer_list<std::int64_t> shape) const {
  const DLTensor& t = get(tensor);
  require_compact(tensor, t, shape);
  std::int64_t size = 1;
  for (const std::int64_t extent : shape) size *= extent;
  return {1, size, size, element_of(tensor, t), t.data};
}

int Call::rank(std::string_view tensor) const { return get(tensor).ndim; }

Rows Call::rows_of(std::string_view tensor, std::initializer_list<std::int64_t> shape, int leading) const {
  const DLTensor& t = get(tensor);
  bool fits = std::equal(t.shape, t.shape + t.ndim, shape.begin(), shape.end());
  std::int64_t width = 1, rows = 1, stride = 0;
  for (int axis = t.ndim - 1; fits && axis >= leading; --axis) {
    fits = t.shape[axis] <= 1 || width == 0 || t.strides[axis] == width;
    width *= t.shape[axis];
  }
  for (int axis = leading - 1; fits && axis >= 0; --axis) {
    if (rows == 1 && t.shape[axis] > 1) stride = t.strides[axis];
    fits = t.shape[axis] <= 1 || rows == 0 || t.strides[axis] == stride * rows;
    rows *= t.shape[axis];
  }
  if (!fits) {
    refuse(tensor, ": ", describe(t), "; want ", list(shape.begin(), static_cast<int>(shape.size())), ", compact but for ",
           leading == 1 ? "the first axis" : "one stride of the first two axes");
  }
  if (rows <= 1) stride = width;
  if (stride < width) refuse(tensor, ": ", describe(t), "; want rows that do not overlap");
  return {rows, width, stride, element_of(tensor, t), t.data};
}

Rows Call::strided_rows(std::string_view tensor) const {
  const DLTensor& t = get(tensor);
  if (t.ndim < 1) refuse(tensor, ": a scalar; want at least one axis");
  const int last = t.ndim - 1;
  const std::int64_t width = t.shape[last];
  if (width < 1) refuse(tensor, ": ", describe(t), "; want a last axis of at least 1");
  if (width > 1 && t.strides[last] != 1) refuse(tensor, ": ", describe(t), "; want a contiguous last axis");

  std::int64_t rows = 1, stride = 0;  // of the axes inside the current one
  for (int axis = last - 1; axis >= 0; --axis) {
    if (t.shape[axis] != 1 && rows > 0) {
      if (rows == 1) {
        stride = t.strides[axis];
      } else if (t.shape[axis] != 0 && t.strides[axis] != stride * rows) {
        refuse(tensor, ": ", describe(t), "; want leading axes with one common row stride");
      }
    }
    rows *= t.shape[axis];
  }
  if (rows <= 1) stride = width;
  if (stride < width) refuse(tensor, ": ", describe(t), "; want rows that do not overlap");
  return {rows, width, stride, element_of(tensor, t), t.data};
}

Rows Call::compact_rows(std::string_view tensor, const Rows& model) const {
  const Rows rows = strided_rows(tensor);
  require_same_rows(tensor, rows, model);
  if (rows.stride != rows.width) refuse(tensor, ": ", describe(get(tensor)), "; want a compact tensor");
  return rows;
}

Rows Call::vector(std::string_view tensor, std::int64_t width) const {
  const DLTensor& t = get(tensor);
  if (t.ndim != 1 || t.shape[0] != width) refuse(tensor, ": ", describe(t), "; want shape [", width, "]");
  return compact_rows(tensor, {1, width, width, Element::float32, nullptr});
}

void* Call::saved(std::size_t bytes) const {
  const DLTensor* t = find("saved");
  if (t == nullptr) return nullptr;
  if (t->ndim != 1 || t->shape[0] != static_cast<std::int64_t>(bytes)) {
    throw std::invalid_argument("saved: " + describe(*t) + "; want [" + std::to_string(bytes) + "]");
  }
  return t->data;
}

void require_same_rows(std::string_view tensor, const Rows& rows, const Rows& model) {
  if (rows.rows == model.rows && rows.width == model.width) return;
  refuse(tensor, ": ", rows.rows, " rows of ", rows.width, "; want ", model.rows, " rows of ", model.width);
}

void require_element(std::string_view tensor, const Rows& rows, Element wanted) {
  if (rows.element != wanted) refuse(tensor, ": ", name_of(rows.element), "; want ", name_of(wanted), " here");
}

void require_element_or_float32(std::string_view tensor, const Rows& rows, Element wanted) {
  if (rows.element != Element::float32) require_element(tensor, rows, wanted);
}

}  // namespace assay::gpu
