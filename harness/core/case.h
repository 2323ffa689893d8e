// A case: one operation at one size, dtype, fill and seed. Its line is printed with every result and accepted back:
//
//   rms_norm/backward rows=7 width=96 residual=same dtype=bf16 fill=model seed=7
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "harness/core/dtype.h"

namespace assay::harness {

struct Case {
  std::string family;                                        // "rms_norm"
  std::string path;                                          // "forward", "backward"
  std::vector<std::pair<std::string, std::int64_t>> sizes;   // named axes, in the family's order
  std::vector<std::pair<std::string, std::string>> options;  // "residual" = "none", in the family's order
  DType dtype = DType::float32;
  std::string fill = "model";  // integer, model, outlier, edge
  std::uint64_t seed = 1;

  std::string operation() const { return family + "." + path; }
  std::int64_t size(std::string_view axis) const;  // throws std::out_of_range naming the axis
  const std::string& option(std::string_view name) const;
  bool operator==(const Case&) const = default;
};

std::string to_line(const Case& c);
// Parses a line. Throws std::invalid_argument that names the word and says what is wanted there. Knows the form only;
// whether the family takes such sizes and options is the family's business.
Case parse_case(std::string_view line);

// True if every word of the filter is the family, the operation (rms_norm/forward) or one of the key=value words of the
// line. A filter with * is a glob over the whole line or the operation. An empty filter matches all.
bool matches(const Case& c, std::string_view filter);

}  // namespace assay::harness
