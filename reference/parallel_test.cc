#include "reference/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace assay::reference {
namespace {

TEST(ParallelFor, EveryPieceOnceWhateverTheThreads) {
  for (int n : {1, 2, 3, 8}) {
    set_threads(n);
    std::vector<std::atomic<int>> seen(100);
    parallel_for(100, 7, [&](std::int64_t begin, std::int64_t end) {
      EXPECT_EQ(begin % 7, 0);
      EXPECT_EQ(end, std::min<std::int64_t>(100, begin + 7));
      EXPECT_EQ(threads_here(), n == 1 ? threads() : 1);
      parallel_for(end - begin, 1, [&](std::int64_t i, std::int64_t) { ++seen[begin + i]; });  // nested: on one thread
    });
    for (const auto& count : seen) EXPECT_EQ(count, 1);
  }
  set_threads(0);
}

TEST(ParallelFor, HandsOnAnException) {
  for (int n : {1, 3}) {
    set_threads(n);
    EXPECT_THROW(parallel_for(10, 1, [](std::int64_t i, std::int64_t) { if (i == 5) throw std::runtime_error("five"); }),
                 std::runtime_error);
  }
  set_threads(0);
  EXPECT_THROW(parallel_for(10, 0, [](std::int64_t, std::int64_t) {}), std::invalid_argument);
  EXPECT_THROW(set_threads(-1), std::invalid_argument);
  parallel_for(0, 5, [](std::int64_t, std::int64_t) { FAIL(); });
}

}  // namespace
}  // namespace assay::reference
