// Recipes: fixtures of cases too large to keep. The case line rebuilds the inputs anywhere; the file keeps a checksum
// of them, and of the outputs their norms and a fixed sample of elements. It is a fixture with "recipe" in the place of
// "tensors":
//
//   "recipe": {
//     "case": "rms_norm/forward rows=16384 width=8192 residual=none dtype=bf16 fill=model seed=7",
//     "inputs":  { "input.hidden_states": {"dtype": "bfloat16", "shape": [16384, 8192], "checksum":
//     "fnv1a64:0123456789abcdef"} }, "outputs": { "output.hidden_states": {"dtype": "bfloat16", "shape": [16384, 8192],
//     "mean": 0.001, "rms": 1.01,
//                  "max_abs": 5.25, "sample": {"at": [0, 524311, ...], "data": [0.25, -1.5, ...]}} } }
//
// mean, rms = sqrt(mean of squares) and max_abs are of the values as stored, summed in double, row-major. `at` are
// row-major indices, ascending.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "harness/core/call.h"
#include "harness/io/fixture.h"

namespace assay::harness {

struct RecipeInput {
  std::string name;
  DType dtype = DType::float32;
  Shape shape;
  std::uint64_t checksum = 0;
};

struct RecipeOutput {
  std::string name;
  DType dtype = DType::float32;
  Shape shape;
  double mean = 0, rms = 0, max_abs = 0;
  std::vector<std::int64_t> at;
  HostTensor sample;  // [at.size()]
};

struct Recipe {
  Fixture head;  // all but tensors
  std::string case_line;
  std::vector<RecipeInput> inputs;
  std::vector<RecipeOutput> outputs;
};

// FNV-1a, 64 bits, of the tensor's bytes: row-major, compact, little-endian. It finds a generator that differs, not a
// forger.
std::uint64_t checksum(const HostTensor& tensor);

inline constexpr std::int64_t kSamples = 256;

// min(count, most) indices spread over 0 .. count - 1, first and last among them; a function of these two numbers alone.
std::vector<std::int64_t> sample_indices(std::int64_t count, std::int64_t most = kSamples);

RecipeInput describe_input(const HostTensor& tensor);
// Throws FixtureError if it holds NaN.
RecipeOutput describe_output(const HostTensor& tensor, std::int64_t samples = kSamples);

// Reading trusts as little as read_fixture does; errors are FixtureError.
Recipe read_recipe(const std::filesystem::path& file);
std::string to_json(const Recipe& recipe);
void write_recipe(const Recipe& recipe, const std::filesystem::path& file);

}  // namespace assay::harness
