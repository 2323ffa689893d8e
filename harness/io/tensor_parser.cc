#include "harness/io/tensor_parser.h"

#include <array>
#include <charconv>

#include "harness/io/element_text.h"

namespace assay::harness {
namespace {

std::string wanted(const std::string& key) {
  if (key == "dtype") return "the name of a dtype, \"float32\"";
  if (key == "shape") return "a list of sizes, [2, 4]";
  if (key == "data") return "a flat list of numbers, row-major";
  return "the keys dtype, shape and data only";
}

}  // namespace

void TensorParser::begin(const JsonPath& path, bool object) {
  const std::string& key = path.key(2);
  if (path.depth() != 3 || object || (key != "shape" && key != "data")) path.fail("a container; want " + wanted(key));
  if (key == "shape") shape_.emplace();
  if (key == "data") data_seen_ = true;
}

void TensorParser::value(const JsonPath& path, const JsonScalar& s) {
  const std::string& key = path.key(2);
  if (path.depth() == 3) return member(path, s);
  if (key == "shape") return axis(path, s);
  if (dtype_) return element(path, s);
  remember(s);
}

HostTensor TensorParser::finish(const JsonPath& path) {
  if (!dtype_) path.fail("no key \"dtype\"; want dtype, shape, data");
  if (!shape_) path.fail("no key \"shape\"; want dtype, shape, data");
  if (!data_seen_) path.fail("no key \"data\"; want dtype, shape, data");
  replay(path);
  const std::int64_t wanted_count = count_wanted(path);
  if (count_ != wanted_count) {
    path.fail(std::to_string(count_) + " values in data; want " + std::to_string(wanted_count) +
              ", the product of shape " + to_string(*shape_));
  }
  tensor_.dtype = *dtype_;
  tensor_.shape = std::move(*shape_);
  return std::move(tensor_);
}

void TensorParser::member(const JsonPath& path, const JsonScalar& s) {
  const std::string& key = path.key(2);
  if (key != "dtype")
    path.fail((key == "shape" || key == "data" ? "no list" : "unknown key") + ("; want " + wanted(key)));
  if (s.kind != JsonScalar::Kind::string) path.fail("no string; want " + wanted(key));
  try {
    dtype_ = dtype_from_name(s.text.substr(0, 80));
  } catch (const std::invalid_argument& error) {
    path.fail(error.what());
  }
  if (name(*dtype_) != s.text)
    path.fail(quoted(s.text) + " is a short name; want \"" + std::string(name(*dtype_)) + "\"");
}

void TensorParser::axis(const JsonPath& path, const JsonScalar& s) {
  if (s.kind != JsonScalar::Kind::integer || s.integer < 0) path.fail("no size; want an integer of 0 or more");
  if (shape_->size() == kMaxRank) path.fail("more axes than " + std::to_string(kMaxRank) + "; want at most that");
  shape_->push_back(s.integer);
}

std::int64_t TensorParser::count_wanted(const JsonPath& path) const {
  std::int64_t product = 1;
  for (const std::int64_t size : *shape_)
    if (__builtin_mul_overflow(product, size, &product)) {
      path.fail("the product of shape " + to_string(*shape_) + " overflows; want less than 2^63");
    }
  return product;
}

void TensorParser::element(const JsonPath& path, const JsonScalar& s) {
  std::array<std::byte, 8> one;
  try {
    parse_element(*dtype_, s, one.data());
  } catch (const std::invalid_argument& error) {
    path.fail(error.what());
  }
  tensor_.bytes.insert(tensor_.bytes.end(), one.begin(), one.begin() + static_cast<std::ptrdiff_t>(size_of(*dtype_)));
  ++count_;
}

// A waiting scalar is its kind and its text, closed by a NUL: two bytes more than it has in the file.
void TensorParser::remember(const JsonScalar& s) {
  waiting_ += static_cast<char>('0' + static_cast<int>(s.kind));
  if (s.kind == JsonScalar::Kind::natural)
    waiting_ += std::to_string(s.natural);
  else if (s.kind == JsonScalar::Kind::real || s.kind == JsonScalar::Kind::string)
    waiting_ += s.text.substr(0, s.text.find('\0'));
  else
    waiting_ += std::to_string(s.integer);
  waiting_ += '\0';
}

void TensorParser::replay(const JsonPath& path) {
  for (std::size_t at = 0; at < waiting_.size();) {
    const std::size_t end = waiting_.find('\0', at);
    JsonScalar s{.kind = static_cast<JsonScalar::Kind>(waiting_[at] - '0')};
    s.text = std::string_view(waiting_).substr(at + 1, end - at - 1);
    const char* const last = s.text.data() + s.text.size();
    if (s.kind == JsonScalar::Kind::natural)
      std::from_chars(s.text.data(), last, s.natural);
    else if (s.kind == JsonScalar::Kind::real)
      std::from_chars(s.text.data(), last, s.real);
    else if (s.kind != JsonScalar::Kind::string)
      std::from_chars(s.text.data(), last, s.integer);
    element(path, s);
    at = end + 1;
  }
  waiting_.clear();
}

}  // namespace assay::harness
