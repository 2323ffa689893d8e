// safetensors: weights in a file that is mapped, not read. 8 bytes little-endian header length n; n bytes of JSON
// {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {...}}; then the tensors, row-major and
// little-endian, offsets counted from the end of the header.
//
// Reading trusts nothing: the header's length, nesting and keys, every name, dtype, shape and offset are checked, and
// the tensors must fill the file without hole or overlap. What is refused is named by file and tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/call.h"
#include "harness/core/dtype.h"

namespace assay::harness {

// "FILE: tensor "NAME": what is wrong; what is wanted".
struct SafetensorsError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A tensor of a mapped file: valid as long as the file object (or a move of it) lives, and the file is not cut short.
struct StoredTensor {
  std::string name;
  DType dtype;
  Shape shape;
  std::span<const std::byte> bytes;  // aligned to nothing
};

inline constexpr std::size_t kMaxSafetensorsHeader = std::size_t{100} << 20;  // the limit of other readers, too

// One file.
class SafetensorsFile {
 public:
  // Throws SafetensorsError.
  explicit SafetensorsFile(const std::filesystem::path& file);
  SafetensorsFile(SafetensorsFile&&) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept;
  ~SafetensorsFile();

  const std::filesystem::path& path() const { return path_; }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }  // in the order of their data
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  class Mapping;
  std::filesystem::path path_;
  std::unique_ptr<Mapping> mapping_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

// The tensors of a model: of one file, or of the shards that an index names.
class SafetensorsModel {
 public:
  // A .safetensors file, a .safetensors.index.json, or a folder with model.safetensors.index.json or model.safetensors.
  // An index and its shards must agree on every name. Throws SafetensorsError.
  explicit SafetensorsModel(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }  // what was opened: the file or the index
  const StoredTensor* find(std::string_view name) const;
  const StoredTensor& tensor(std::string_view name) const;  // throws SafetensorsError if there is none
  const std::map<std::string, const StoredTensor*, std::less<>>& tensors() const { return by_name_; }
  // Where a tensor of this model lies, for messages.
  const std::filesystem::path& file_of(const StoredTensor& tensor) const;

 private:
  void open_index();
  void add(SafetensorsFile file);

  std::filesystem::path path_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const StoredTensor*, std::less<>> by_name_;
};

// Writes the tensors in the order given, the header padded so that data begin at a multiple of 8; atomically.
// Throws std::invalid_argument for names that are empty, equal or hold control characters, and for bytes that do not
// fill a shape.
void write_safetensors(const std::filesystem::path& file, std::span<const StoredTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

// Writes FOLDER/model.safetensors or, above `shard_bytes`, model-0000k-of-0000n.safetensors and their index. A tensor
// is never split.
void write_safetensors_model(const std::filesystem::path& folder, std::span<const StoredTensor> tensors,
                             std::uint64_t shard_bytes = std::uint64_t{5} << 30);

// "F32", "BF16", ...: the spelling of the format.
std::string_view safetensors_name(DType dtype);

}  // namespace assay::harness
