// One element of a tensor as JSON text and back.
#pragma once

#include <cstddef>
#include <string>

#include "harness/core/dtype.h"
#include "harness/io/strict_json.h"

namespace assay::harness {

// Stores the scalar at `p`. Float32 and float64 take the nearest value; bfloat16 and float16 want a decimal that, read
// as float32, is a value of the dtype. "inf" and "-inf" are infinities; bool takes 0, 1, true, false.
// Throws std::invalid_argument: "0.1 is no bfloat16; want ...".
void parse_element(DType dtype, const JsonScalar& scalar, std::byte* p);

// Appends the shortest decimal that reads back as the element; for the 16-bit types that of the float32 it equals.
// Throws std::invalid_argument for NaN.
void append_element(std::string& text, DType dtype, const std::byte* p);

// The shortest decimal of a double, "inf", "-inf" or "nan"; always with a point or an exponent.
std::string shortest(double value);

}  // namespace assay::harness
