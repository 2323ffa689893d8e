#include "harness/worker/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace assay::harness {
namespace {

std::vector<std::size_t> storage_offsets(const Layout& layout) {
  std::vector<std::size_t> offsets;
  layout.for_each_run([&](const Run& run) {
    for (std::size_t at = 0; at < run.bytes; at += layout.element_bytes()) offsets.push_back(run.storage + at);
  });
  return offsets;
}

std::size_t runs(const Layout& layout) {
  std::size_t count = 0;
  layout.for_each_run([&](const Run&) { ++count; });
  return count;
}

using Axes = std::vector<std::int64_t>;

TEST(Layout, ACompactTensorIsOneRun) {
  const Layout layout(Axes{2, 3, 4}, Axes{12, 4, 1}, 4);
  EXPECT_EQ(layout.compact_bytes(), 96u);
  EXPECT_EQ(layout.storage_bytes(), 96u);
  EXPECT_TRUE(layout.is_one_run());
  EXPECT_EQ(runs(layout), 1u);
}

TEST(Layout, AScalarIsOneElement) {
  const Layout layout(Axes{}, Axes{}, 8);
  EXPECT_EQ(layout.storage_bytes(), 8u);
  EXPECT_EQ(storage_offsets(layout), (std::vector<std::size_t>{0}));
}

TEST(Layout, AnEmptyTensorHasNoStorage) {
  const Layout layout(Axes{3, 0, 4}, Axes{100, 4, 1}, 4);
  EXPECT_EQ(layout.elements(), 0u);
  EXPECT_EQ(layout.storage_bytes(), 0u);
  EXPECT_EQ(runs(layout), 0u);
}

TEST(Layout, RowsOfASliceAreRuns) {
  const Layout layout(Axes{3, 2}, Axes{5, 1}, 2);
  EXPECT_EQ(layout.storage_bytes(), 24u);  // 2 * 5 + 2 elements
  EXPECT_FALSE(layout.is_one_run());
  EXPECT_EQ(runs(layout), 3u);
  EXPECT_EQ(storage_offsets(layout), (std::vector<std::size_t>{0, 2, 10, 12, 20, 22}));
}

TEST(Layout, ATransposedTensorHasNoGapsButMovesItsElements) {
  const Layout layout(Axes{2, 3}, Axes{1, 2}, 1);
  EXPECT_EQ(layout.storage_bytes(), layout.compact_bytes());
  EXPECT_FALSE(layout.is_one_run());
  EXPECT_EQ(storage_offsets(layout), (std::vector<std::size_t>{0, 2, 4, 1, 3, 5}));
}

TEST(Layout, ABroadcastAxisReadsOneElementAgain) {
  const Layout layout(Axes{3, 2}, Axes{0, 1}, 1);
  EXPECT_EQ(layout.storage_bytes(), 2u);
  EXPECT_EQ(layout.compact_bytes(), 6u);
}

TEST(Layout, AxesOfExtentOneDoNotCount) {
  const Layout layout(Axes{2, 1, 3}, Axes{3, 999, 1}, 4);
  EXPECT_EQ(runs(layout), 1u);
  EXPECT_EQ(layout.storage_bytes(), 24u);
}

TEST(Layout, GatherUndoesScatterAndLeavesGapsAlone) {
  const Layout layout(Axes{2, 3, 2}, Axes{20, 5, 1}, 2);
  std::vector<std::byte> compact(layout.compact_bytes()), back(layout.compact_bytes());
  for (std::size_t i = 0; i < compact.size(); ++i) compact[i] = static_cast<std::byte>(i + 1);
  std::vector<std::byte> storage(layout.storage_bytes(), std::byte{0xEE});
  layout.scatter(compact.data(), storage.data());
  EXPECT_EQ(std::count(storage.begin(), storage.end(), std::byte{0xEE}),
            static_cast<std::ptrdiff_t>(layout.storage_bytes() - layout.compact_bytes()));
  layout.gather(storage.data(), back.data());
  EXPECT_EQ(back, compact);
}

}  // namespace
}  // namespace assay::harness
