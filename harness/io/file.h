// Whole files: read with a limit, written so that a reader never sees half of one.
#pragma once

#include <cstddef>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

namespace assay::harness {

// "FILE: what is wrong; what is wanted".
struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline constexpr std::size_t kMaxFileBytes = std::size_t{512} << 20;

// Throws FileError: missing, a folder, unreadable, not a regular file, larger than `limit`.
std::string read_file(const std::filesystem::path& file, std::size_t limit = kMaxFileBytes);

// Writes a temporary file in the same folder, syncs it and renames it over `file`: whatever fails, what was there
// before stays. A device or pipe (/dev/stdout) is written to directly. Throws FileError.
void write_file(const std::filesystem::path& file, std::string_view text);

}  // namespace assay::harness
