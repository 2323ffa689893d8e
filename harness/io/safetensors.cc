#include "harness/io/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>

#include "harness/io/file.h"
#include "harness/io/safetensors_header.h"
#include "harness/io/strict_json.h"

namespace assay::harness {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::size_t kLengthBytes = 8;
constexpr std::string_view kSingle = "model.safetensors", kIndex = "model.safetensors.index.json";

[[noreturn]] void fail(const fs::path& file, const std::string& what) {
  throw SafetensorsError(file.string() + ": " + what);
}

std::uint64_t little_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  return value;
}

}  // namespace

// A read-only view of a whole file.
class SafetensorsFile::Mapping {
 public:
  explicit Mapping(const fs::path& file) {
    const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) fail(file, std::string("cannot open: ") + std::strerror(errno));
    struct stat status = {};
    const bool is_file = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    size_ = is_file ? static_cast<std::size_t>(status.st_size) : 0;
    void* begin = size_ > 0 ? ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0) : nullptr;
    const int error = errno;
    ::close(descriptor);
    if (!is_file) fail(file, "is no regular file; want a safetensors file");
    if (begin == MAP_FAILED) fail(file, std::string("cannot map: ") + std::strerror(error));
    begin_ = static_cast<const std::byte*>(begin);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (begin_) ::munmap(const_cast<std::byte*>(begin_), size_);
  }
  std::span<const std::byte> bytes() const { return {begin_, size_}; }

 private:
  const std::byte* begin_ = nullptr;
  std::size_t size_ = 0;
};

SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;
SafetensorsFile::~SafetensorsFile() = default;

SafetensorsFile::SafetensorsFile(const fs::path& file) : path_(file), mapping_(std::make_unique<Mapping>(file)) {
  const std::span<const std::byte> bytes = mapping_->bytes();
  if (bytes.size() < kLengthBytes)
    fail(file, fmt::format("{} bytes; want 8 or more, the header's length", bytes.size()));
  const std::uint64_t length = little_endian(bytes.first(kLengthBytes));
  if (length > kMaxSafetensorsHeader)
    fail(file, fmt::format("a header of {} bytes; want at most {}", length, kMaxSafetensorsHeader));
  if (length > bytes.size() - kLengthBytes)
    fail(file, fmt::format("a header of {} bytes in a file of {}; is the file cut short?", length, bytes.size()));
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + length);
  SafetensorsHeader header;
  try {
    header =
        parse_safetensors_header({reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length}, data.size());
  } catch (const HeaderError& error) {
    fail(file, error.what());
  }
  metadata_ = std::move(header.metadata);
  for (HeaderEntry& entry : header.entries)
    tensors_.push_back({.name = std::move(entry.name),
                        .dtype = entry.dtype,
                        .shape = std::move(entry.shape),
                        .bytes = data.subspan(entry.begin, entry.end - entry.begin)});
}

SafetensorsModel::SafetensorsModel(const fs::path& path) : path_(path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    if (fs::exists(path / kIndex, ignored))
      path_ = path / kIndex;
    else if (fs::exists(path / kSingle, ignored))
      path_ = path / kSingle;
    else
      fail(path, fmt::format("neither {} nor {} is there; want one of them", kIndex, kSingle));
  }
  if (path_.extension() == ".json")
    open_index();
  else
    add(SafetensorsFile(path_));
}

void SafetensorsModel::add(SafetensorsFile file) {
  files_.push_back(std::make_unique<SafetensorsFile>(std::move(file)));
  for (const StoredTensor& tensor : files_.back()->tensors()) {
    const auto [entry, is_new] = by_name_.emplace(tensor.name, &tensor);
    if (!is_new)
      fail(files_.back()->path(), fmt::format("tensor {}: also in {}; want it once", harness::quoted(tensor.name),
                                              file_of(*entry->second).string()));
  }
}

void SafetensorsModel::open_index() {
  ordered_json document;
  try {
    document = parse_json(read_file(path_, kMaxSafetensorsHeader));
  } catch (const JsonError& error) {
    fail(path_, error.what());
  } catch (const FileError& error) {
    throw SafetensorsError(error.what());
  }
  if (!document.is_object() || !document.contains("weight_map") || !document.at("weight_map").is_object())
    fail(path_, "/weight_map: no object; want {tensor: file}");
  std::map<std::string, std::set<std::string>> tensors_of;
  for (const auto& [tensor, file] : document.at("weight_map").items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    // A shard lies beside its index: no path that leads elsewhere.
    if (name.empty() || fs::path(name).filename() != name || name == "." || name == ".." ||
        name.find('\0') != name.npos)
      fail(path_,
           fmt::format("{}: is {}; want the name of a file beside the index", json_pointer({"weight_map", tensor}),
                       harness::quoted(name.empty() ? file.type_name() : name)));
    tensors_of[name].insert(tensor);
  }
  for (const auto& [name, wanted] : tensors_of) {
    const fs::path shard = path_.parent_path() / name;
    std::error_code ignored;
    if (!fs::exists(shard, ignored))
      fail(shard,
           fmt::format("the shard is missing; {} wants {} tensors from it", path_.filename().string(), wanted.size()));
    SafetensorsFile file(shard);
    std::set<std::string> found;
    for (const StoredTensor& tensor : file.tensors()) {
      found.insert(tensor.name);
      if (!wanted.contains(tensor.name))
        fail(shard, fmt::format("tensor {}: {} does not say that it is here", harness::quoted(tensor.name),
                                path_.filename().string()));
    }
    for (const std::string& tensor : wanted)
      if (!found.contains(tensor))
        fail(shard, fmt::format("tensor {}: is missing; {} says that it is here", harness::quoted(tensor),
                                path_.filename().string()));
    add(std::move(file));
  }
}

const StoredTensor* SafetensorsModel::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

const StoredTensor& SafetensorsModel::tensor(std::string_view name) const {
  if (const StoredTensor* found = find(name)) return *found;
  fail(path_, fmt::format("tensor {}: is missing", harness::quoted(name)));
}

const fs::path& SafetensorsModel::file_of(const StoredTensor& tensor) const {
  for (const auto& file : files_) {
    const std::vector<StoredTensor>& tensors = file->tensors();
    if (!std::less<>{}(&tensor, tensors.data()) && std::less<>{}(&tensor, tensors.data() + tensors.size()))
      return file->path();
  }
  return path_;
}

void write_safetensors(const fs::path& file, std::span<const StoredTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  SafetensorsHeader header{.entries = {}, .metadata = metadata};
  std::uint64_t offset = 0;
  std::string text;
  try {
    for (const StoredTensor& tensor : tensors) {
      const std::uint64_t bytes = byte_count(tensor.dtype, tensor.shape);
      if (bytes != tensor.bytes.size())
        throw HeaderError(fmt::format("tensor {}: {} bytes; want {} for {} {}", harness::quoted(tensor.name),
                                      tensor.bytes.size(), bytes, safetensors_name(tensor.dtype),
                                      to_string(tensor.shape)));
      header.entries.push_back({tensor.name, tensor.dtype, tensor.shape, offset, offset + bytes});
      offset += bytes;
    }
    text = format_safetensors_header(header);
  } catch (const HeaderError& error) {
    throw std::invalid_argument("write_safetensors: " + file.string() + ": " + error.what());
  }
  // Streamed into a file beside it and renamed: a model need not fit into memory twice.
  const fs::path temporary = file.parent_path() / fmt::format(".{}.{}.tmp", file.filename().string(), ::getpid());
  std::ofstream stream(temporary, std::ios::binary | std::ios::trunc);
  for (std::size_t i = 0; i < kLengthBytes; ++i) stream.put(static_cast<char>(text.size() >> (8 * i)));
  stream << text;
  for (const StoredTensor& tensor : tensors)
    stream.write(reinterpret_cast<const char*>(tensor.bytes.data()), static_cast<std::streamsize>(tensor.bytes.size()));
  stream.close();
  std::error_code error;
  if (stream) fs::rename(temporary, file, error);
  if (!stream || error) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    fail(file, "cannot write: " + (error ? error.message() : std::string("is the disk full?")));
  }
}

void write_safetensors_model(const fs::path& folder, std::span<const StoredTensor> tensors, std::uint64_t shard_bytes) {
  std::vector<std::vector<StoredTensor>> shards(1);
  std::uint64_t total = 0, in_shard = 0;
  for (const StoredTensor& tensor : tensors) {
    const std::uint64_t bytes = tensor.bytes.size();
    if (!shards.back().empty() && in_shard + bytes > shard_bytes) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back(tensor);
    in_shard += bytes;
    total += bytes;
  }
  if (shards.size() == 1) return write_safetensors(folder / kSingle, shards[0]);
  ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", ordered_json::object()}};
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_safetensors(folder / name, shards[i]);
    for (const StoredTensor& tensor : shards[i]) index["weight_map"][tensor.name] = name;
  }
  write_file(folder / kIndex, index.dump(2) + "\n");
}

}  // namespace assay::harness
