#include "harness/io/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "harness/io/temporary_folder.h"

namespace assay::harness {
namespace {

namespace fs = std::filesystem;

std::string read_error(const fs::path& file, std::size_t limit = kMaxFileBytes) {
  try {
    read_file(file, limit);
  } catch (const FileError& error) {
    return error.what();
  }
  return "no error";
}

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(File, ReadsBackWhatItWrote) {
  const TemporaryFolder folder;
  const std::string text("a\0b\n", 4);
  write_file(folder / "f", text);
  EXPECT_EQ(read_file(folder / "f"), text);
  write_file(folder / "f", "");
  EXPECT_EQ(read_file(folder / "f"), "");
  EXPECT_EQ(entries(folder.path()), 1u);  // no temporary file is left
}

TEST(File, NamesWhatIsWrongWithAFile) {
  const TemporaryFolder folder;
  EXPECT_EQ(read_error(folder / "none"), (folder / "none").string() + ": cannot read: No such file or directory");
  EXPECT_EQ(read_error(folder.path()), folder.path().string() + ": is a folder; want a file");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_NE(read_error(folder / "pipe").find("want a regular file"), std::string::npos);  // and does not hang
  EXPECT_NE(read_error("/dev/zero").find("want a regular file"), std::string::npos);
  const fs::path big = folder.put("big", "12345");
  EXPECT_EQ(read_error(big, 4), big.string() + ": 5 bytes; want at most 4");
  if (::geteuid() != 0) {
    fs::permissions(big, fs::perms::none);
    EXPECT_NE(read_error(big).find("Permission denied"), std::string::npos);
  }
}

TEST(File, AFailedWriteLosesNothing) {
  const TemporaryFolder folder;
  EXPECT_THROW(write_file(folder / "no/such/f", "x"), FileError);
  EXPECT_THROW(write_file(folder.path(), "x"), FileError);
  EXPECT_EQ(entries(folder.path()), 0u);
  // A folder that cannot take the temporary file leaves the old file alone.
  const fs::path file = folder.put("f", "old");
  const TemporaryFolder elsewhere;
  fs::create_directory(folder / "readonly");
  const fs::path kept = folder / "readonly/f";
  fs::copy_file(file, kept);
  fs::permissions(folder / "readonly", fs::perms::owner_read | fs::perms::owner_exec);
  if (::geteuid() != 0) {
    EXPECT_THROW(write_file(kept, "new"), FileError);
    EXPECT_EQ(content(kept), "old");
  }
  fs::permissions(folder / "readonly", fs::perms::owner_all);
}

TEST(File, KeepsModeAndLink) {
  const TemporaryFolder folder;
  const fs::path file = folder.put("f", "old");
  fs::permissions(file, fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("f", folder / "link");
  write_file(folder / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(content(file), "new");
  EXPECT_EQ(fs::status(file).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST(File, WritesToADevice) { EXPECT_NO_THROW(write_file("/dev/null", "text")); }

}  // namespace
}  // namespace assay::harness
