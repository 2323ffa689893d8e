#include "harness/io/strict_json.h"

#include <limits>
#include <utility>

namespace assay::harness {
namespace {

std::string escaped_token(std::string_view key) {
  std::string result;
  for (const char c : key.substr(0, 200)) {
    if (c == '~')
      result += "~0";
    else if (c == '/')
      result += "~1";
    else
      result += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  }
  return result;
}

// nlohmann's text without its own prefix "[json.exception.parse_error.101] ".
std::string plain(const std::string& what) {
  const auto end = what.find("] ");
  std::string text = end == std::string::npos ? what : what.substr(end + 2);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = '?';
  if (text.size() > 240) text.replace(240, std::string::npos, " ...");
  return text;
}

}  // namespace

std::string JsonPath::pointer() const {
  std::string result;
  for (const Frame& f : frames_) result += '/' + (f.object ? escaped_token(f.key) : std::to_string(f.index));
  return result;
}

void JsonPath::fail(const std::string& what) const {
  const std::string at = pointer();
  throw JsonError((at.empty() ? "/" : at) + ": " + what);
}

// nlohmann's SAX events, with the path kept beside them.
class JsonEvents {
 public:
  explicit JsonEvents(JsonVisitor& visitor) : visitor_(visitor) {}

  bool null() { return scalar({}); }
  bool boolean(bool v) { return scalar({.kind = JsonScalar::Kind::boolean, .integer = v}); }
  bool number_integer(std::int64_t v) { return scalar({.kind = JsonScalar::Kind::integer, .integer = v}); }
  bool number_unsigned(std::uint64_t v) {
    if (v <= std::uint64_t{std::numeric_limits<std::int64_t>::max()})
      return number_integer(static_cast<std::int64_t>(v));
    return scalar({.kind = JsonScalar::Kind::natural, .natural = v});
  }
  bool number_float(double v, const std::string& text) {
    return scalar({.kind = JsonScalar::Kind::real, .real = v, .text = text});
  }
  bool string(const std::string& text) { return scalar({.kind = JsonScalar::Kind::string, .text = text}); }
  bool binary(nlohmann::json::binary_t&) { path_.fail("binary data; want JSON text"); }
  bool start_object(std::size_t) { return open(true); }
  bool start_array(std::size_t) { return open(false); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(const std::string& name) {
    JsonPath::Frame& frame = path_.frames_.back();
    frame.key = name;
    if (!frame.seen.insert(name).second) path_.fail("the key appears twice; want it once");
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) {
    path_.fail(plain(error.what()) + "; want JSON");
  }

 private:
  bool scalar(const JsonScalar& value) {
    visitor_.value(path_, value);
    advance();
    return true;
  }
  bool open(bool object) {
    if (path_.depth() == kMaxJsonDepth) {
      path_.fail("nested deeper than " + std::to_string(kMaxJsonDepth) + " levels; want at most that");
    }
    visitor_.begin(path_, object);
    path_.frames_.push_back({object, {}, 0, {}});
    return true;
  }
  bool close() {
    path_.frames_.pop_back();
    visitor_.end(path_);
    advance();
    return true;
  }
  void advance() {
    if (!path_.frames_.empty()) ++path_.frames_.back().index;
  }

  JsonVisitor& visitor_;
  JsonPath path_;
};

void visit_json(std::string_view text, JsonVisitor& visitor) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) throw JsonError("/: the file is empty; want JSON");
  // The parser would take it for the end of the text, whatever follows.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos)
    throw JsonError("/: byte " + std::to_string(nul) + " is NUL; want JSON text");
  JsonEvents events(visitor);
  nlohmann::json::sax_parse(text.begin(), text.end(), &events);
}

nlohmann::ordered_json* JsonTree::add(const JsonPath& path, nlohmann::ordered_json value) {
  if (++values_ > kMaxJsonTreeValues) {
    path.fail("more than " + std::to_string(kMaxJsonTreeValues) + " values; want fewer");
  }
  started_ = true;
  if (open_.empty()) {
    root_ = std::move(value);
    return &root_;
  }
  nlohmann::ordered_json& parent = *open_.back();
  if (parent.is_array()) {
    parent.push_back(std::move(value));
    return &parent.back();
  }
  // The key is known to be new, so no search for it: that would be quadratic.
  auto& members = parent.get_ref<nlohmann::ordered_json::object_t&>();
  members.Container::emplace_back(path.key(path.depth() - 1), std::move(value));
  return &members.back().second;
}

void JsonTree::begin(const JsonPath& path, bool object) {
  open_.push_back(add(path, object ? nlohmann::ordered_json::object() : nlohmann::ordered_json::array()));
}

void JsonTree::end(const JsonPath&) { open_.pop_back(); }

void JsonTree::value(const JsonPath& path, const JsonScalar& s) {
  using Kind = JsonScalar::Kind;
  switch (s.kind) {
    case Kind::null:
      add(path, nullptr);
      break;
    case Kind::boolean:
      add(path, s.integer != 0);
      break;
    case Kind::integer:
      add(path, s.integer);
      break;
    case Kind::natural:
      add(path, s.natural);
      break;
    case Kind::real:
      add(path, s.real);
      break;
    case Kind::string:
      add(path, std::string(s.text));
      break;
  }
}

nlohmann::ordered_json JsonTree::take() {
  started_ = false;
  values_ = 0;
  return std::exchange(root_, nullptr);
}

nlohmann::ordered_json parse_json(std::string_view text) {
  JsonTree tree;
  visit_json(text, tree);
  return tree.take();
}

std::string json_pointer(std::initializer_list<std::string_view> keys) {
  std::string result;
  for (const std::string_view key : keys) result += '/' + escaped_token(key);
  return result;
}

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text.substr(0, 80)) result += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return result + (text.size() > 80 ? "...\"" : "\"");
}

}  // namespace assay::harness
