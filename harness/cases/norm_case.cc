#include "harness/cases/norm_case.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "harness/core/catalogue.h"

namespace assay::harness {

HostTensor unwritten_tensor(const std::string& op, const std::string& name, DType dtype, Shape shape) {
  const TensorSpec* spec = operation(op).find(name);
  if (!spec) throw std::logic_error(op + " has no tensor " + name);
  return {.name = name, .role = spec->role, .dtype = dtype, .shape = std::move(shape), .strides = {}, .bytes = {}};
}

HostTensor case_tensor(const std::string& op, const std::string& name, DType dtype, Shape shape,
                       const std::vector<double>& values) {
  HostTensor t = unwritten_tensor(op, name, dtype, std::move(shape));
  t.bytes.resize(t.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) t.set(static_cast<std::int64_t>(i), values[i]);
  return t;
}

HostTensor saved_tensor() {
  return {.name = "saved", .role = Role::saved, .dtype = DType::uint8, .shape = {}, .strides = {}, .bytes = {}};
}

void make_rows_strided(HostTensor& tensor, std::int64_t gap) { tensor.strides = {tensor.shape[1] + gap, 1}; }

template <class T>
reference::Tensor<T> to_reference(const HostTensor& tensor) {
  reference::Tensor<T> result(tensor.shape);
  for (std::int64_t i = 0; i < result.size(); ++i) result[i] = static_cast<T>(tensor.at(i));
  return result;
}
template <class T>
reference::Tensor<T> to_reference_rows(const HostTensor& tensor) {
  const std::int64_t width = tensor.shape.back();
  return to_reference<T>(tensor).reshaped({width == 0 ? 0 : tensor.size() / width, width});
}
template reference::Tensor<float> to_reference<float>(const HostTensor&);
template reference::Tensor<double> to_reference<double>(const HostTensor&);
template reference::Tensor<float> to_reference_rows<float>(const HostTensor&);
template reference::Tensor<double> to_reference_rows<double>(const HostTensor&);

std::vector<double> to_double(const reference::Tensor<float>& tensor) {
  return {tensor.span().begin(), tensor.span().end()};
}
std::vector<double> to_double(const reference::Tensor<double>& tensor) {
  return {tensor.span().begin(), tensor.span().end()};
}

reference::Numerics<float> matched_numerics(DType dtype) {
  reference::Numerics<float> numerics;
  if (dtype == DType::bfloat16) numerics.storage = reference::Storage::bfloat16;
  return numerics;
}

double eps_option(const Case& c) {
  const std::string& text = c.option("eps");
  double eps = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), eps);
  if (error != std::errc() || end != text.data() + text.size() || !(eps > 0) || !std::isfinite(eps))
    throw std::invalid_argument(fmt::format("{}: eps={}; want a number above 0, as eps=1e-05", to_line(c), text));
  return eps;
}

void check_form(const Case& c, const std::vector<std::string>& sizes,
                const std::vector<std::pair<std::string, std::vector<std::string>>>& options,
                const std::vector<std::string>& paths) {
  const auto fail = [&](const std::string& found) {
    std::vector<std::string> words;
    for (const std::string& s : sizes) words.push_back(s + "=N");
    for (const auto& [name, values] : options)
      words.push_back(name + "=" + (values.empty() ? "X" : fmt::format("{}", fmt::join(values, "|"))));
    throw std::invalid_argument(
        fmt::format("{}: {}; want {} dtype=f32|bf16 fill=... seed=N", to_line(c), found, fmt::join(words, " ")));
  };
  if (std::find(paths.begin(), paths.end(), c.path) == paths.end())
    fail(fmt::format("path \"{}\" is unknown ({})", c.path, fmt::join(paths, ", ")));
  if (c.dtype != DType::float32 && c.dtype != DType::bfloat16)
    fail("dtype " + std::string(name(c.dtype)) + " is not judged");
  for (const auto& [name, value] : c.sizes)  // a word with a whole number reads as a size
    if (std::any_of(options.begin(), options.end(), [&](const auto& o) { return o.first == name && o.second.empty(); }))
      fail(fmt::format("{0}={1} reads as a size; write {0}={1}.0", name, value));
  for (std::size_t i = 0; i < std::max(sizes.size(), c.sizes.size()); ++i)
    if (i >= sizes.size() || i >= c.sizes.size() || c.sizes[i].first != sizes[i])
      fail(i < c.sizes.size() ? "size \"" + c.sizes[i].first + "\" is not expected here"
                              : "size \"" + sizes[i] + "\" is missing");
  for (std::size_t i = 0; i < std::max(options.size(), c.options.size()); ++i) {
    if (i >= options.size() || i >= c.options.size() || c.options[i].first != options[i].first)
      fail(i < c.options.size() ? "option \"" + c.options[i].first + "\" is not expected here"
                                : "option \"" + options[i].first + "\" is missing");
    const auto& values = options[i].second;
    if (!values.empty() && std::find(values.begin(), values.end(), c.options[i].second) == values.end())
      fail(c.options[i].first + "=" + c.options[i].second + " is unknown");
  }
}

Expectation expectation_of(const Call& call, const std::string& tensor, bool exact) {
  const HostTensor& t = call.tensor(tensor);
  Expectation e;
  e.tensor = tensor;
  e.dtype = t.dtype;
  e.shape = t.shape;
  const TensorSpec* spec = operation(call.op).find(tensor);
  // A fixture's tensor may have more leading axes than the catalogue's rows.
  for (std::size_t extra = spec->axes.size(); extra < t.shape.size(); ++extra)
    e.axes.push_back(extra == spec->axes.size() && t.shape.size() - spec->axes.size() == 1
                         ? "batch"
                         : fmt::format("axis{}", extra - spec->axes.size()));
  e.axes.insert(e.axes.end(), spec->axes.begin(), spec->axes.end());
  e.exact = exact;
  return e;
}

}  // namespace assay::harness
