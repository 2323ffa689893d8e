#include "harness/io/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "harness/io/safetensors.h"
#include "harness/io/strict_json.h"

namespace assay::harness {
namespace {

using nlohmann::ordered_json;

constexpr std::pair<std::string_view, DType> kDtypes[] = {
    {"F64", DType::float64}, {"F32", DType::float32}, {"F16", DType::float16}, {"BF16", DType::bfloat16},
    {"I64", DType::int64},   {"I32", DType::int32},   {"U8", DType::uint8},    {"BOOL", DType::boolean}};

constexpr std::string_view kMetadata = "__metadata__";

[[noreturn]] void fail(std::string_view tensor, const std::string& what) {
  throw HeaderError("tensor " + harness::quoted(tensor) + ": " + what);
}

void require_name(std::string_view name) {
  if (name.empty()) fail(name, "an empty name; want a name");
  for (const char c : name)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) fail(name, "a control character in the name; want none");
}

// A count of elements or bytes: an integer of 0 or more.
std::uint64_t natural(std::string_view tensor, const std::string& what, const ordered_json& value) {
  const bool is_natural = value.is_number_integer() && (value.is_number_unsigned() || value.get<std::int64_t>() >= 0);
  if (!is_natural || value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
    fail(tensor, what + " is " + harness::quoted(value.dump(-1, ' ', false, ordered_json::error_handler_t::replace)) +
                     "; want an integer of 0 or more");
  return value.get<std::uint64_t>();
}

DType parse_dtype(std::string_view tensor, const ordered_json& value) {
  std::string known;
  for (const auto& [text, dtype] : kDtypes) {
    if (value == text) return dtype;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  fail(tensor, "dtype is " + harness::quoted(value.is_string() ? value.get<std::string>() : value.type_name()) +
                   "; want one of " + known);
}

HeaderEntry parse_entry(const std::string& name, const ordered_json& value) {
  require_name(name);
  if (!value.is_object()) fail(name, "is " + std::string(value.type_name()) + "; want an object");
  for (const auto& [key, member] : value.items())
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      fail(name, "unknown key " + harness::quoted(key) + "; want dtype, shape and data_offsets alone");
  for (const char* key : {"dtype", "shape", "data_offsets"})
    if (!value.contains(key)) fail(name, std::string(key) + " is missing; want dtype, shape and data_offsets");
  HeaderEntry entry{.name = name, .dtype = parse_dtype(name, value.at("dtype")), .shape = {}};
  const ordered_json &shape = value.at("shape"), &offsets = value.at("data_offsets");
  if (!shape.is_array()) fail(name, "shape is " + std::string(shape.type_name()) + "; want a list of integers");
  for (const ordered_json& extent : shape)
    entry.shape.push_back(static_cast<std::int64_t>(natural(name, "an extent of the shape", extent)));
  if (!offsets.is_array() || offsets.size() != 2) fail(name, "data_offsets are no pair; want [begin, end]");
  entry.begin = natural(name, "data_offsets/0", offsets[0]);
  entry.end = natural(name, "data_offsets/1", offsets[1]);
  return entry;
}

void require_extent(const HeaderEntry& entry, std::uint64_t data_bytes) {
  const std::string offsets = "data_offsets [" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "]";
  if (entry.begin > entry.end) fail(entry.name, offsets + " run backwards; want begin <= end");
  if (entry.end > data_bytes)
    fail(entry.name,
         offsets + " reach beyond the " + std::to_string(data_bytes) + " bytes of data; is the file cut short?");
  std::uint64_t wanted = 0;
  try {
    wanted = byte_count(entry.dtype, entry.shape);
  } catch (const HeaderError& error) {
    fail(entry.name, error.what());
  }
  if (entry.end - entry.begin != wanted)
    fail(entry.name, offsets + " hold " + std::to_string(entry.end - entry.begin) + " bytes; want " +
                         std::to_string(wanted) + " for " + std::string(safetensors_name(entry.dtype)) + " " +
                         to_string(entry.shape));
}

// Sorts the entries by their data and requires that they fill it, without hole or overlap.
void require_contiguous(std::vector<HeaderEntry>& entries, std::uint64_t data_bytes) {
  std::ranges::stable_sort(entries, {}, [](const HeaderEntry& e) { return std::pair(e.begin, e.end); });
  std::uint64_t filled = 0;
  const HeaderEntry* previous = nullptr;
  for (const HeaderEntry& entry : entries) {
    const std::string before = previous ? "tensor " + harness::quoted(previous->name) : "the header";
    if (entry.begin < filled)
      fail(entry.name, "begins at byte " + std::to_string(entry.begin) + " inside " + before + ", which ends at " +
                           std::to_string(filled) + "; want no overlap");
    if (entry.begin > filled)
      fail(entry.name, "begins at byte " + std::to_string(entry.begin) + ", " + std::to_string(entry.begin - filled) +
                           " bytes after " + before + "; want no hole");
    filled = entry.end;
    previous = &entry;
  }
  if (filled != data_bytes)
    throw HeaderError("the tensors end at byte " + std::to_string(filled) + " of " + std::to_string(data_bytes) +
                      " bytes of data; want no rest");
}

std::map<std::string, std::string> parse_metadata(const ordered_json& value) {
  if (!value.is_object()) throw HeaderError("/__metadata__: is " + std::string(value.type_name()) + "; want an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string())
      throw HeaderError(json_pointer({kMetadata, key}) + ": is " + std::string(text.type_name()) + "; want a string");
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

}  // namespace

std::string_view safetensors_name(DType dtype) {
  for (const auto& [text, known] : kDtypes)
    if (known == dtype) return text;
  throw std::invalid_argument("safetensors_name: unknown dtype");
}

std::uint64_t byte_count(DType dtype, const Shape& shape) {
  std::uint64_t bytes = size_of(dtype);
  // An extent of 0 makes any shape empty, however large the others are.
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  for (const std::int64_t extent : shape) {
    if (bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max() / extent))
      throw HeaderError("shape " + to_string(shape) + " has more bytes than 63 bits count");
    bytes *= static_cast<std::uint64_t>(extent);
  }
  return bytes;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes) {
  if (json.empty() || json.front() != '{') throw HeaderError("the header does not begin with '{'; want a JSON object");
  ordered_json document;
  try {
    document = parse_json(json);
  } catch (const JsonError& error) {
    throw HeaderError(std::string("header: ") + error.what());
  }
  SafetensorsHeader header;
  for (const auto& [name, value] : document.items()) {
    if (name == kMetadata) {
      header.metadata = parse_metadata(value);
      continue;
    }
    header.entries.push_back(parse_entry(name, value));
    require_extent(header.entries.back(), data_bytes);
  }
  require_contiguous(header.entries, data_bytes);
  return header;
}

std::string format_safetensors_header(const SafetensorsHeader& header) {
  ordered_json document = ordered_json::object();
  if (!header.metadata.empty()) document[std::string(kMetadata)] = header.metadata;
  for (const HeaderEntry& entry : header.entries) {
    require_name(entry.name);
    if (entry.name == kMetadata || document.contains(entry.name)) fail(entry.name, "the name is taken; want another");
    document[entry.name] = {
        {"dtype", safetensors_name(entry.dtype)}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text = document.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace assay::harness
