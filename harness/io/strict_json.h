// JSON that nobody vouches for, read in one pass: bounded nesting, no key twice, every error by JSON pointer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace assay::harness {

// "/tensors/input.x/data/3: what is wrong; what is wanted". The caller adds the file.
struct JsonError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Where in a document a value stands.
class JsonPath {
 public:
  std::size_t depth() const { return frames_.size(); }  // 0: the document itself
  const std::string& key(std::size_t level) const { return frames_[level].key; }
  std::string pointer() const;  // "" for the document itself
  [[noreturn]] void fail(const std::string& what) const;

 private:
  friend class JsonEvents;
  struct Frame {
    bool object;
    std::string key;
    std::size_t index;
    std::unordered_set<std::string> seen;
  };
  std::vector<Frame> frames_;
};

struct JsonScalar {
  enum class Kind { null, boolean, integer, natural /* beyond int64 */, real, string };
  Kind kind = Kind::null;
  std::int64_t integer = 0;   // boolean, integer
  std::uint64_t natural = 0;  // natural
  double real = 0;
  std::string_view text = {};  // real: the number as written; string: its content
};

// What a reader does with the values, in the order of the document.
class JsonVisitor {
 public:
  virtual ~JsonVisitor() = default;
  virtual void begin(const JsonPath& path, bool object) = 0;
  virtual void end(const JsonPath& path) = 0;
  virtual void value(const JsonPath& path, const JsonScalar& scalar) = 0;
};

// Deeper documents are refused: none of ours needs a third of it, and a recursive reader elsewhere may not survive
// more.
inline constexpr std::size_t kMaxJsonDepth = 32;

// Throws JsonError.
void visit_json(std::string_view text, JsonVisitor& visitor);

// Builds the values it is shown into a tree. Refuses more than kMaxJsonTreeValues of them: a tree takes many times the
// memory of its text.
inline constexpr std::size_t kMaxJsonTreeValues = std::size_t{1} << 24;
class JsonTree final : public JsonVisitor {
 public:
  void begin(const JsonPath& path, bool object) override;
  void end(const JsonPath& path) override;
  void value(const JsonPath& path, const JsonScalar& scalar) override;
  bool complete() const { return started_ && open_.empty(); }
  nlohmann::ordered_json take();

 private:
  nlohmann::ordered_json* add(const JsonPath& path, nlohmann::ordered_json value);
  nlohmann::ordered_json root_;
  std::vector<nlohmann::ordered_json*> open_;
  std::size_t values_ = 0;
  bool started_ = false;
};

nlohmann::ordered_json parse_json(std::string_view text);

// "/tensors/input.x": the pointer to a member by its keys, fit for a message.
std::string json_pointer(std::initializer_list<std::string_view> keys);

// At most 80 bytes of `text` in quotes, control characters replaced: fit for a message.
std::string quoted(std::string_view text);

}  // namespace assay::harness
