// Minimal pairs: a correct kernel and its twin with one wrong line, which somebody must report, at a line.
//
// Both twins come from one template over `kBad`, one line of which uses it. The lines that a report may name end in
// `// reported`. mustfail.py reads both from the source; table.txt says which build reports what.
#pragma once

#include <optional>
#include <span>

#include "cuda/simt/simt.cuh"

namespace simt::mustfail {

// What every kernel gets: device memory, made anew for each run. 254 is no multiple of a 16-byte vector's 4 floats.
struct Memory {
  static constexpr int kLength = 254, kFlags = 64;
  const float* x;  // [kLength] 1, 2, 3 ...
  float* y;        // [kLength] zeros
  float* unset;    // [kLength] written by nobody
  int* flags;      // [kFlags] zeros
};

struct Case {
  using Twin = void (*)(Memory);
  const char* name;  // that of the template
  Twin good, bad;
  std::optional<Launch> launch;  // empty: the twins are no kernels but functions that launch one
  int architecture;

  Case(const char* name_, Twin good_, Twin bad_, const Launch& launch_, int architecture_ = 90)
      : name(name_), good(good_), bad(bad_), launch(launch_), architecture(architecture_) {}
  Case(const char* name_, Twin good_, Twin bad_, int architecture_ = 90)
      : name(name_), good(good_), bad(bad_), architecture(architecture_) {}
};

std::span<const Case> barrier_cases();
std::span<const Case> async_copy_cases();
std::span<const Case> collective_cases();
std::span<const Case> bounds_cases();
std::span<const Case> alignment_cases();
std::span<const Case> uninitialised_cases();
std::span<const Case> race_cases();
std::span<const Case> progress_cases();
std::span<const Case> launch_limit_cases();

}  // namespace simt::mustfail
