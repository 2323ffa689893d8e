// Writing the reference's own fixtures into a folder, without ever changing one that is still right.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "harness/golden/drafts.h"

namespace assay::harness {

struct GoldenChange {
  enum class Kind {
    none,     // the file is what would be written
    right,    // it has other bits, but the same inputs, and passes golden check
    missing,  // there is no such file
    wrong,    // it has other inputs, does not pass, or can't be read
  };
  Kind kind = Kind::none;
  std::filesystem::path file;
  std::vector<std::string> reasons;  // of wrong: a line each
  std::string text;                  // what belongs there
};

// What the draft would do to DIR/NAME.json: reads, writes nothing.
GoldenChange golden_change(const GoldenDraft& draft, const std::filesystem::path& folder);

// Writes the text atomically. Throws FileError.
void accept(const GoldenChange& change);

}  // namespace assay::harness
