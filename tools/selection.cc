#include "tools/selection.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <sstream>

#include "harness/cases/family.h"
#include "harness/io/file.h"
#include "tools/cli.h"

namespace assay::tools {
namespace {

using harness::Case;

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

bool has_key(const std::vector<std::string>& words, std::string_view key) {
  return std::any_of(words.begin(), words.end(), [&](const std::string& w) { return w.starts_with(key); });
}

// A line that says all a case needs, whether or not the tier has it. Throws UsageError if it is one, but wrong.
std::optional<Case> complete_line(const std::string& filter) {
  const std::vector<std::string> words = words_of(filter);
  if (words.empty() || words[0].find('/') == std::string::npos || filter.find('*') != std::string::npos) return {};
  if (!has_key(words, "dtype=") || !has_key(words, "fill=") || !has_key(words, "seed=")) return {};
  try {
    Case c = harness::parse_case(filter);
    harness::family(c.family).check(c);
    return c;
  } catch (const std::exception& error) {
    throw UsageError(error.what());
  }
}

[[noreturn]] void unknown(const std::vector<Case>& all, const std::string& filter) {
  std::set<std::string> vocabulary;
  for (const Case& c : all) {
    vocabulary.insert({c.family, c.family + "/" + c.path});
    const auto words = words_of(to_line(c));
    vocabulary.insert(words.begin() + 1, words.end());
  }
  for (const std::string& word : words_of(filter)) {
    if (std::any_of(all.begin(), all.end(), [&](const Case& c) { return matches(c, word); })) continue;
    const std::vector<std::string> known(vocabulary.begin(), vocabulary.end());
    throw UsageError(fmt::format("no case matches \"{}\"{}; see assay list --cases", word.substr(0, 200),
                                 did_you_mean(word, known)));
  }
  throw UsageError(fmt::format("no case matches all of \"{}\"; see assay list --cases", filter.substr(0, 200)));
}

}  // namespace

std::vector<std::string> join_filters(const std::vector<std::string>& words) {
  std::vector<std::string> filters;
  std::string common;
  bool open = false;  // the last filter takes key=value words
  for (const std::string& word : words) {
    const bool own = word.find(' ') != std::string::npos;
    const bool pair = !own && word.find('=') != std::string::npos && word.find('*') == std::string::npos;
    if (pair && open)
      filters.back() += ' ' + word;
    else if (pair && filters.empty())
      common += (common.empty() ? "" : " ") + word;
    else
      filters.push_back(word);
    open = !own && !filters.empty();
  }
  if (filters.empty() && !common.empty()) return {common};
  for (std::string& filter : filters)
    if (!common.empty()) filter += ' ' + common;
  return filters;
}

std::vector<Case> select_cases(const std::vector<Case>& all, const std::vector<std::string>& filters) {
  if (filters.empty()) return all;
  std::vector<bool> chosen(all.size(), false);
  std::vector<Case> further;
  for (const std::string& filter : filters) {
    bool any = false;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!matches(all[i], filter)) continue;
      any = chosen[i] = true;
    }
    if (any) continue;
    const std::optional<Case> line = complete_line(filter);
    if (!line) unknown(all, filter);
    if (std::find(further.begin(), further.end(), *line) == further.end()) further.push_back(*line);
  }
  std::vector<Case> result;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (chosen[i]) result.push_back(all[i]);
  result.insert(result.end(), further.begin(), further.end());
  return result;
}

std::vector<Case> with_further_seeds(const std::vector<Case>& cases, std::int64_t further) {
  std::vector<Case> result;
  std::set<std::string> lines;
  for (std::int64_t k = 0; k <= further; ++k)
    for (Case c : cases) {
      c.seed += 1000 * static_cast<std::uint64_t>(k);
      if (lines.insert(to_line(c)).second) result.push_back(c);
    }
  return result;
}

Shard parse_shard(std::string_view text) {
  Shard shard;
  const char* const end = text.data() + text.size();
  const auto [slash, e1] = std::from_chars(text.data(), end, shard.index);
  if (e1 == std::errc() && slash != end && *slash == '/') {
    const auto [last, e2] = std::from_chars(slash + 1, end, shard.count);
    if (e2 == std::errc() && last == end && shard.index >= 1 && shard.index <= shard.count) return shard;
  }
  throw UsageError(
      fmt::format("--shard {}: no part of a whole; want I/N with 1 <= I <= N, as 2/5", text.substr(0, 100)));
}

std::vector<std::string> read_filters(const std::string& file, const std::vector<Case>& all) {
  std::istringstream lines(harness::read_file(file, 1 << 20));
  std::vector<std::string> filters;
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::vector<std::string> words = words_of(line.substr(0, line.find('#')));
    if (words.empty()) continue;
    std::string filter = words[0];
    for (std::size_t i = 1; i < words.size(); ++i) filter += ' ' + words[i];
    try {
      select_cases(all, {filter});
    } catch (const UsageError& error) {
      throw UsageError(fmt::format("{}:{}: {}", file, number, error.what()));
    }
    filters.push_back(filter);
  }
  if (filters.empty())
    throw UsageError(fmt::format("{}: no filter in it; want one a line, as rms_norm dtype=bf16", file));
  return filters;
}

}  // namespace assay::tools
