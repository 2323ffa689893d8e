#include "harness/core/case.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <stdexcept>

namespace assay::harness {
namespace {

template <class List>
const auto& lookup(const List& list, std::string_view key, const Case& c, const char* what) {
  for (const auto& [name, value] : list)
    if (name == key) return value;
  throw std::out_of_range(fmt::format("{} has no {} \"{}\"", to_line(c), what, key));
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const auto begin = text.find_first_not_of(" \t");
    if (begin == text.npos) break;
    const auto end = std::min(text.find_first_of(" \t", begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    text.remove_prefix(end);
  }
  return words;
}

template <class T>
bool parse_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// Glob with * only. On a mismatch only the last * gives way, which is enough: work grows with pattern times text.
bool glob(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = pattern.npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == pattern.npos;
}

}  // namespace

std::int64_t Case::size(std::string_view axis) const { return lookup(sizes, axis, *this, "size"); }
const std::string& Case::option(std::string_view name) const { return lookup(options, name, *this, "option"); }

std::string to_line(const Case& c) {
  std::string line = c.family + "/" + c.path;
  for (const auto& [axis, size] : c.sizes) line += fmt::format(" {}={}", axis, size);
  for (const auto& [name, value] : c.options) line += fmt::format(" {}={}", name, value);
  return line + fmt::format(" dtype={} fill={} seed={}", short_name(c.dtype), c.fill, c.seed);
}

Case parse_case(std::string_view line) {
  const std::vector<std::string_view> words = split(line);
  const auto bad = [&](std::string_view word, std::string_view want) {
    return std::invalid_argument(fmt::format("case line \"{}\": \"{}\"; want {}", line, word, want));
  };
  if (words.empty()) throw bad("", "family/path key=value ...");
  const auto slash = words[0].find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == words[0].size())
    throw bad(words[0], "family/path, as rms_norm/forward");
  Case c;
  c.family = words[0].substr(0, slash);
  c.path = words[0].substr(slash + 1);
  std::set<std::string_view> seen;
  for (const std::string_view word : std::vector(words.begin() + 1, words.end())) {
    const auto equal = word.find('=');
    if (equal == word.npos || equal == 0 || equal + 1 == word.size()) throw bad(word, "key=value");
    const std::string_view key = word.substr(0, equal), value = word.substr(equal + 1);
    if (!seen.insert(key).second) throw bad(word, "each key once");
    std::int64_t size = 0;
    if (key == "dtype") {
      try {
        c.dtype = dtype_from_name(value);
      } catch (const std::invalid_argument& e) {
        throw bad(word, e.what());
      }
    } else if (key == "fill") {
      if (value != "integer" && value != "model" && value != "outlier" && value != "edge")
        throw bad(word, "fill=integer, model, outlier or edge");
      c.fill = value;
    } else if (key == "seed") {
      if (!parse_number(value, c.seed)) throw bad(word, "seed=a whole number from 0 to 2^64 - 1");
    } else if (parse_number(value, size)) {
      if (size < 0) throw bad(word, "a size of 0 or more");
      c.sizes.emplace_back(key, size);
    } else {
      c.options.emplace_back(key, value);
    }
  }
  return c;
}

bool matches(const Case& c, std::string_view filter) {
  const std::string line = to_line(c);
  if (filter.find('*') != filter.npos) return glob(filter, line) || glob(filter, c.family + "/" + c.path);
  const std::vector<std::string_view> have = split(line);
  for (const std::string_view word : split(filter)) {
    const bool is_key_value = word.find('=') != word.npos;
    const std::string dotted = c.operation();
    const bool hit = is_key_value ? std::find(have.begin(), have.end(), word) != have.end()
                                  : word == c.family || word == have[0] || word == dotted;
    if (!hit) return false;
  }
  return true;
}

}  // namespace assay::harness
