// The header of a safetensors file: its JSON to and from a list of tensors, checked against the size of the data.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/call.h"
#include "harness/core/dtype.h"

namespace assay::harness {

struct HeaderEntry {
  std::string name;
  DType dtype;
  Shape shape;
  std::uint64_t begin = 0, end = 0;  // bytes from the start of the data
};

struct SafetensorsHeader {
  std::vector<HeaderEntry> entries;  // in the order of their data
  std::map<std::string, std::string> metadata;
};

// Without the file's name: "tensor "NAME": what is wrong; what is wanted".
struct HeaderError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws HeaderError.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes);

// The JSON, padded with spaces so that 8 bytes and it are a multiple of 8.
std::string format_safetensors_header(const SafetensorsHeader& header);

// Bytes of a tensor. Throws HeaderError if they do not fit in 63 bits.
std::uint64_t byte_count(DType dtype, const Shape& shape);

}  // namespace assay::harness
