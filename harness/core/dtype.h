// The element types of the catalogue, and how they are named, stored and rounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace assay::harness {

enum class DType { float32, bfloat16, float64, float16, int64, int32, uint8, boolean };

// "float32", "bfloat16", ...: the spelling of fixtures. Throws std::invalid_argument for an unknown name.
std::string_view name(DType dtype);
DType dtype_from_name(std::string_view name);
// "f32", "bf16", ...: the spelling of case lines.
std::string_view short_name(DType dtype);
std::size_t size_of(DType dtype);
bool is_floating(DType dtype);

// One element at `p`, widened to double (exact for every dtype but int64 beyond 2^53).
double load(DType dtype, const void* p);
// `value` rounded once, to nearest even, into the element at `p`. Integers must be exact.
void store(DType dtype, void* p, double value);

// double -> bfloat16 -> double, one rounding to nearest even, straight from the double.
double round_to_bfloat16(double value);
double round_to(DType dtype, double value);

// Distance from |value| to the next larger number of the dtype: ulp(0) is the smallest denormal.
double ulp(DType dtype, double value);

}  // namespace assay::harness
