// The least time that counted work can take on a GPU: a prediction, never a measurement.
//
//   seconds = max over the resources of what was counted / what the GPU delivers
//
// The resources: global memory; each tensor-core type's peak (together, for they are one unit); scalar arithmetic;
// special functions; shared memory's wavefronts; and the longest chain, which no further multiprocessor shortens: the
// heaviest block's traffic through one multiprocessor, or the busiest thread's steps, one a clock. Peaks are those of
// the data sheet and the programming guide; a real kernel stays below each of them.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace assay::harness {

using Counts = std::map<std::string, std::int64_t, std::less<>>;  // by the names of CaseResult::counters

struct Gpu {
  std::string_view name;
  double clock;  // Hz, of a multiprocessor
  double multiprocessors;
  double bytes;                  // of global memory, a second
  double scalar_operations;      // float32 a second, a fused multiply-add as two
  double special_per_clock;      // of a multiprocessor
  double block_bytes_per_clock;  // between L2 and one multiprocessor
  std::array<std::pair<std::string_view, double>, 7> tensor_operations;  // a second, dense, by type
};

const Gpu& h100_sxm();

struct Roofline {
  double seconds = 0;
  std::string_view limiter;  // "memory", "tensor cores", "arithmetic", "special functions", "shared memory", "one
                             // block", "one thread"
  struct Need {
    std::string_view resource;
    double amount, a_second;
    std::string_view unit;
    double seconds() const { return amount / a_second; }
  };
  std::vector<Need> needs;  // of all resources that take any time
};
Roofline roofline(const Gpu& gpu, const Counts& counts);

// The roofline in words: each need with its arithmetic, and the longest chain of a block beside a balanced one.
std::string arithmetic_text(const Gpu& gpu, const Counts& counts);

}  // namespace assay::harness
