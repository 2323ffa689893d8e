#include <gtest/gtest.h>

#include "cuda/simt/simt.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

// Each step passes every value to the next thread; a barrier that lets anyone through early breaks the chain.
__global__ void rotate_kernel(int* out, int steps) {
  SIMT_SHARED(int[1024], slot);
  const int threads = static_cast<int>(blockDim.x), t = static_cast<int>(threadIdx.x);
  slot[t] = t;
  for (int i = 0; i < steps; ++i) {
    __syncthreads();
    const int next = slot[(t + 1) % threads];
    __syncthreads();
    slot[t] = next;
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = slot[t];
}

TEST(Barrier, OrdersSharedMemoryForEveryBlockSize) {
  for (const unsigned threads : {1u, 31u, 32u, 33u, 96u, 1000u, 1024u}) {
    const Buffer<int> out(2 * threads);
    for_each_schedule([&] {
      launch(rotate_kernel, {.grid = 2, .block = threads}, out, 5);
      const auto result = out.host();
      for (unsigned i = 0; i < 2 * threads; ++i) EXPECT_EQ(result[i], static_cast<int>((i % threads + 5) % threads));
    });
  }
}

__global__ void reduce_kernel(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  const int count = __syncthreads_count(t % 3 == 0);
  const int none = __syncthreads_or(0);
  const int any = __syncthreads_or(t == 70);
  const int all = __syncthreads_and(t >= 0);
  const int not_all = __syncthreads_and(t != 70);
  if (t == 0) {
    const int values[5] = {count, none, any, all, not_all};
    for (int i = 0; i < 5; ++i) out[i] = values[i];
  }
}

TEST(Barrier, ReducesPredicates) {
  const Buffer<int> out(5);
  for_each_schedule([&] {
    launch(reduce_kernel, {.grid = 1, .block = 100}, out);
    EXPECT_EQ(out.host(), (std::vector<int>{34, 0, 1, 1, 0}));
  });
}

// Warp 0 produces, warps 1 and 2 consume, through two named barriers; warp 3 does not take part.
__global__ void producer_kernel(int* out, int rounds) {
  SIMT_SHARED(int, value);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  constexpr int kFull = 1, kEmpty = 2;
  if (warp == 3) return;
  for (int i = 0; i < rounds; ++i) {
    if (warp == 0) {
      if (i > 0) named_barrier_sync(kEmpty, 96);
      if (threadIdx.x == 0) value = 100 + i;
      named_barrier_arrive(kFull, 96);
    } else {
      named_barrier_sync(kFull, 96);
      out[i * 64 + threadIdx.x - 32] = value;
      if (i + 1 < rounds) named_barrier_arrive(kEmpty, 96);
    }
  }
}

TEST(Barrier, NamedBarriersCountThreads) {
  constexpr int kRounds = 6;
  const Buffer<int> out(64 * kRounds);
  for_each_schedule([&] {
    launch(producer_kernel, {.grid = 1, .block = 128}, out, kRounds);
    const auto result = out.host();
    for (int i = 0; i < 64 * kRounds; ++i) EXPECT_EQ(result[i], 100 + i / 64);
  });
}

__global__ void leave_kernel(int* out) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

TEST(Barrier, DoesNotWaitForThreadsThatHaveExited) {
  const Buffer<int> out(40);
  for_each_schedule([&] {
    launch(leave_kernel, {.grid = 1, .block = 64}, out);
    EXPECT_EQ(out.host(), std::vector<int>(40, 1));
  });
}

__global__ void divergent_kernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

TEST(Barrier, ReportsDivergence) {
  for_each_schedule([] {
    const std::string error = error_of([] { launch(divergent_kernel, {.grid = 1, .block = 64}); });
    EXPECT_NE(error.find("divergent __syncthreads: others wait at barrier_test.cu:"), std::string::npos) << error;
    EXPECT_NE(error.find("block (0,0,0)"), std::string::npos) << error;
  });
}

__global__ void half_kernel() {
  if (threadIdx.x < 32) named_barrier_sync(1, 64);
}
__global__ void counts_kernel() { named_barrier_sync(1, threadIdx.x < 32 ? 64 : 96); }
__global__ void odd_count_kernel() { named_barrier_sync(1, 33); }

TEST(Barrier, ReportsDeadlockWithTheLine) {
  const std::string error = error_of([] { launch(half_kernel, {.grid = 1, .block = 64}); });
  EXPECT_EQ(error.find("deadlock: no thread can run\n  thread (0,0,0) = warp 0 lane 0, block (0,0,0) and the next 31: "
                       "bar.sync at barrier_test.cu:"),
            0u)
      << error;
}

TEST(Barrier, ReportsCountsThatDisagreeOrCannotBe) {
  std::string error = error_of([] { launch(counts_kernel, {.grid = 1, .block = 96}); });
  EXPECT_NE(error.find("barrier 1: for 96 threads here, for 64 at"), std::string::npos) << error;
  error = error_of([] { launch(odd_count_kernel, {.grid = 1, .block = 64}); });
  EXPECT_NE(error.find("barrier 1: 33 threads; want a multiple of 32"), std::string::npos) << error;
}

}  // namespace
}  // namespace simt::testing
