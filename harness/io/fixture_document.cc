#include "harness/io/fixture_document.h"

#include <algorithm>
#include <array>
#include <set>

#include "harness/io/file.h"

namespace assay::harness {
namespace {

constexpr std::array<std::string_view, 8> kKeys = {"schema",     "name",   "layer",      "path",
                                                   "provenance", "config", "attributes", "tensors"};

class FixtureParser final : public JsonVisitor {
 public:
  FixtureDocument take() {
    for (const std::string_view key : kKeys) {
      if (key == "tensors" && document_.recipe) continue;
      if (!seen_.count(key)) throw JsonError("/: no key \"" + std::string(key) + "\"; want schema 1 with all its keys");
    }
    if (document_.recipe && seen_.count("tensors")) throw JsonError("/recipe: tensors as well; want one of the two");
    const Fixture& fixture = document_.fixture;
    if (fixture.provenance.empty()) throw JsonError("/provenance: empty; want where the numbers came from");
    for (const HostTensor& t : fixture.tensors)
      check_tensor_name(t.name, fixture.layer, json_pointer({"tensors", t.name}));
    return std::move(document_);
  }

 private:
  void begin(const JsonPath& path, bool object) override {
    if (path.depth() == 0) {
      if (!object) path.fail("a list; want an object");
      return;
    }
    if (path.depth() == 1)
      open_section(path, object);
    else if (section_ == Section::tree)
      tree_.begin(path, object);
    else if (path.depth() == 2)
      open_tensor(path, object);
    else
      tensor_->begin(path, object);
  }

  void end(const JsonPath& path) override {
    if (path.depth() == 0) return;
    if (section_ == Section::tree) {
      tree_.end(path);
      if (path.depth() == 1) tree_of(path.key(0)) = tree_.take();
    } else if (path.depth() == 2) {
      document_.fixture.tensors.push_back(tensor_->finish(path));
      tensor_.reset();
    }
  }

  void value(const JsonPath& path, const JsonScalar& s) override {
    if (path.depth() == 0) path.fail("a single value; want an object");
    if (path.depth() == 1) return member(path, s);
    if (section_ == Section::tree) return tree_.value(path, s);
    if (path.depth() == 2) path.fail("no object; want {\"dtype\", \"shape\", \"data\"}");
    tensor_->value(path, s);
  }

  void open_section(const JsonPath& path, bool object) {
    const std::string& key = path.key(0);
    if (key != "recipe" && std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) unknown(path);
    if (!object || key == "schema" || key == "name" || key == "layer" || key == "path") {
      path.fail(std::string(object ? "an object" : "a list") + "; want " + wanted(key));
    }
    seen_.insert(key);
    section_ = key == "tensors" ? Section::tensors : Section::tree;
    if (section_ == Section::tree) tree_.begin(path, object);
  }

  void open_tensor(const JsonPath& path, bool object) {
    if (!object) path.fail("a list; want {\"dtype\", \"shape\", \"data\"}");
    tensor_.emplace(path.key(1));
  }

  void member(const JsonPath& path, const JsonScalar& s) {
    const std::string& key = path.key(0);
    Fixture& fixture = document_.fixture;
    if (key == "schema") {
      if (s.kind != JsonScalar::Kind::integer || s.integer != 1)
        path.fail("unknown schema; want 1, the one this program reads");
    } else if (key == "name" || key == "layer" || key == "path") {
      if (s.kind != JsonScalar::Kind::string || s.text.empty() || s.text.size() > 200)
        path.fail("no name; want " + wanted(key));
      (key == "name" ? fixture.name : key == "layer" ? fixture.layer : fixture.path) = s.text;
    } else if (key == "recipe" || std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end()) {
      path.fail("no object; want " + wanted(key));
    } else {
      unknown(path);
    }
    seen_.insert(key);
  }

  static std::string wanted(const std::string& key) {
    if (key == "schema") return "the number 1";
    if (key == "name" || key == "layer" || key == "path") return "a string of 1 to 200 bytes";
    return "an object";
  }
  [[noreturn]] static void unknown(const JsonPath& path) {
    path.fail("unknown key; want schema, name, layer, path, provenance, config, attributes, and tensors or recipe");
  }

  nlohmann::ordered_json& tree_of(const std::string& key) {
    Fixture& fixture = document_.fixture;
    if (key == "provenance") return fixture.provenance;
    if (key == "config") return fixture.config;
    if (key == "attributes") return fixture.attributes;
    return document_.recipe.emplace();
  }

  enum class Section { tree, tensors };
  FixtureDocument document_;
  Section section_ = Section::tree;
  JsonTree tree_;
  std::optional<TensorParser> tensor_;
  std::set<std::string, std::less<>> seen_;
};

constexpr std::array<std::string_view, 13> kPrefixes = {"input",       "param",   "buffer", "output", "grad",
                                                        "tap",         "prefill", "decode", "step",   "generate",
                                                        "constructor", "init",    "train"};

}  // namespace

void check_tensor_name(std::string_view name, std::string_view layer, const std::string& pointer) {
  const bool form =
      !name.empty() && name.size() <= 200 && name.front() != '.' && name.back() != '.' &&
      name.find("..") == std::string_view::npos && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
      });
  if (!form) {
    throw JsonError(pointer + ": no tensor name; want letters, digits, _ and single dots, \"input.hidden_states\"");
  }
  if (layer == "rng") return;  // its tensors are draws, named by their distribution
  const std::string_view prefix = name.substr(0, name.find('.'));
  if (std::find(kPrefixes.begin(), kPrefixes.end(), prefix) == kPrefixes.end() || prefix.size() == name.size()) {
    std::string known;
    for (const std::string_view p : kPrefixes) known += (known.empty() ? "" : ", ") + std::string(p) + ".";
    throw JsonError(pointer + ": unknown kind of tensor; want a name that starts with " + known);
  }
  if (prefix != "decode" && prefix != "step") return;
  const std::string_view rest = name.substr(prefix.size() + 1);
  const std::size_t digits = rest.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos || rest[digits] != '.') {
    throw JsonError(pointer + ": no step number; want \"" + std::string(prefix) + ".0.output.hidden_states\"");
  }
}

Shape parse_shape(const nlohmann::ordered_json& value, const std::string& pointer) {
  if (!value.is_array() || value.size() > kMaxRank)
    throw JsonError(pointer + ": no shape; want a list of at most 8 sizes");
  Shape shape;
  std::int64_t product = 1;
  for (const auto& size : value) {
    if (!size.is_number_integer() || size.get<std::int64_t>() < 0)
      throw JsonError(pointer + ": no size; want integers of 0 or more");
    shape.push_back(size.get<std::int64_t>());
    if (__builtin_mul_overflow(product, shape.back(), &product))
      throw JsonError(pointer + ": overflows; want a product below 2^63");
  }
  return shape;
}

FixtureDocument parse_fixture_document(std::string_view text) {
  FixtureParser parser;
  visit_json(text, parser);
  return parser.take();
}

FixtureDocument read_fixture_document(const std::filesystem::path& file) {
  try {
    FixtureDocument document = parse_fixture_document(read_file(file));
    document.fixture.file = file;
    return document;
  } catch (const FileError& error) {
    throw FixtureError(error.what());
  } catch (const JsonError& error) {
    throw FixtureError(file.string() + ": " + error.what());
  }
}

std::string open_document(const Fixture& fixture, std::string_view last_key) {
  const auto text = [](const nlohmann::ordered_json& value) { return value.dump(); };
  const auto object = [&](const nlohmann::ordered_json& value) { return value.is_null() ? "{}" : text(value); };
  return "{\"schema\":1,\"name\":" + text(fixture.name) + ",\"layer\":" + text(fixture.layer) +
         ",\"path\":" + text(fixture.path) + ",\"provenance\":" + object(fixture.provenance) +
         ",\"config\":" + object(fixture.config) + ",\"attributes\":" + object(fixture.attributes) + ",\"" +
         std::string(last_key) + "\":";
}

}  // namespace assay::harness
