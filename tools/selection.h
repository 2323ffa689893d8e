// Which cases a command line means.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "harness/verify/run.h"

namespace assay::tools {

// The words of a command line as filters: a word with spaces is a filter of its own (a quoted case line); a name opens
// a filter, and key=value words join the one before them. Those before any name hold for every filter.
//   rms_norm gated_rms_norm dtype=bf16  ->  "rms_norm", "gated_rms_norm dtype=bf16"
//   dtype=bf16                          ->  "dtype=bf16"
std::vector<std::string> join_filters(const std::vector<std::string>& words);

// The cases among `all` that any filter matches, in the order of `all`, and complete case lines that are not among
// them. No filter: all. Throws UsageError for a filter that means no case, naming the word and its near misses.
std::vector<harness::Case> select_cases(const std::vector<harness::Case>& all, const std::vector<std::string>& filters);

// Each case with its own seed s, and with s + 1000, s + 2000, ... `further` times.
std::vector<harness::Case> with_further_seeds(const std::vector<harness::Case>& cases, std::int64_t further);

struct Shard {
  std::size_t index = 1, count = 1;  // 1 of 1
};
Shard parse_shard(std::string_view text);  // "2/5"; throws UsageError

// Every count-th item, so that shards take about equally long.
template <class T>
std::vector<T> of_shard(const std::vector<T>& items, const Shard& shard) {
  std::vector<T> result;
  for (std::size_t i = shard.index - 1; i < items.size(); i += shard.count) result.push_back(items[i]);
  return result;
}

// The filters of a file, one a line; # opens a comment. Each must mean a case among `all`. Throws UsageError.
std::vector<std::string> read_filters(const std::string& file, const std::vector<harness::Case>& all);

}  // namespace assay::tools
