#include "harness/golden/generate.h"

#include <algorithm>

#include "harness/golden/diff.h"
#include "harness/golden/fixture_reader.h"
#include "harness/golden/golden.h"
#include "harness/io/file.h"

namespace assay::harness {
namespace {

// Of a line of differences: it is about what a tensor that is there in both holds, and that was recorded.
bool is_about_values(const std::string& line) {
  const std::string_view text = line;
  if (text.starts_with("/recipe/outputs/")) return true;
  constexpr std::string_view kTensors = "/tensors/";
  if (!text.starts_with(kTensors) || text.ends_with("is new") || text.ends_with("is gone")) return false;
  return is_expected(text.substr(kTensors.size()));
}

std::string text_of(const GoldenFile& golden) {
  return std::visit([](const auto& file) { return to_json(file) + "\n"; }, golden);
}

}  // namespace

GoldenChange golden_change(const GoldenDraft& draft, const std::filesystem::path& folder) {
  const GoldenFile fresh = draft.record();
  GoldenChange change;
  change.file = folder / (draft.name + ".json");
  change.text = text_of(fresh);
  if (!std::filesystem::exists(change.file)) {
    change.kind = GoldenChange::Kind::missing;
    return change;
  }
  try {
    if (read_file(change.file) == change.text) return change;
    change.reasons = golden_differences(read_golden(change.file), fresh);
    const CaseResult result = check_fixture(change.file);
    if (result.status != Status::passed)
      change.reasons.insert(change.reasons.begin(), "it does not pass: " + result.message);
    const bool is_right =
        result.status == Status::passed && std::all_of(change.reasons.begin(), change.reasons.end(), is_about_values);
    change.kind = is_right ? GoldenChange::Kind::right : GoldenChange::Kind::wrong;
  } catch (const std::runtime_error& error) {
    change.kind = GoldenChange::Kind::wrong;
    change.reasons = {error.what()};
  }
  return change;
}

void accept(const GoldenChange& change) { write_file(change.file, change.text); }

}  // namespace assay::harness
