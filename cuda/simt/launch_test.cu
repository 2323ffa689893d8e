#include <gtest/gtest.h>

#include <cmath>

#include "cuda/simt/simt.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

void expect_error(const std::string& error, const char* text) {
  EXPECT_NE(error.find(text), std::string::npos) << error;
}

__global__ void nothing_kernel() {}

TEST(Launch, ChecksLimitsBeforeRunning) {
  const auto error = [](const Launch& l) { return error_of([&] { launch(nothing_kernel, l); }); };
  EXPECT_EQ(error({.grid = 1, .block = 1024}), "");
  expect_error(error({.grid = 1, .block = 1025}), "has 1025 threads; want 1 to 1024");
  expect_error(error({.grid = 1, .block = dim3(1, 0, 1)}), "has 0 threads");
  expect_error(error({.grid = 1, .block = dim3(1, 1, 65)}), "block.z = 65");
  expect_error(error({.grid = 0, .block = 32}), "is empty");
  expect_error(error({.grid = dim3(1, 65536), .block = 32}), "want at most");
  expect_error(error({.grid = 1, .block = 32, .group = 0}), "group = 0");
  expect_error(error({.grid = 0, .block = 32}), "launch at launch_test.cu:");
}

TEST(Launch, KnowsSharedMemoryOfEachArchitecture) {
  const struct {
    int sm;
    unsigned kilobytes;
  } table[] = {{80, 163}, {90, 227}, {100, 227}, {120, 99}};
  for (const auto& row : table) {
    set_architecture(row.sm);
    EXPECT_EQ(error_of([&] { launch(nothing_kernel, {.grid = 1, .block = 32, .smem = row.kilobytes * 1024}); }), "");
    expect_error(error_of([&] { launch(nothing_kernel, {.grid = 1, .block = 32, .smem = row.kilobytes * 1024 + 1}); }),
                 ("sm_" + std::to_string(row.sm) + " has " + std::to_string(row.kilobytes * 1024)).c_str());
  }
  set_architecture(90);
  EXPECT_THROW(set_architecture(42), std::invalid_argument);
}

__global__ void where_kernel(unsigned* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread;
}

TEST(Launch, RunsEveryThreadOnceWhateverTheWorkers) {
  const dim3 grid(3, 5, 2), block(7, 3, 2);
  for (const int workers : {1, 2, 5}) {
    set_workers(workers);
    for_each_schedule([&] {
      Buffer<unsigned> out(30 * 42);
      out.upload(std::vector<unsigned>(30 * 42, 0));
      launch(where_kernel, {.grid = grid, .block = block}, out);
      const auto result = out.host();
      for (unsigned i = 0; i < result.size(); ++i) ASSERT_EQ(result[i], i / 42 * 1000 + i % 42);
    });
  }
  set_workers(0);
}

// A barrier between the blocks of a group, by a counter in global memory.
__global__ void meeting_kernel(int* arrived, int* out) {
  if (threadIdx.x == 0) {
    __atomic_fetch_add(arrived, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(arrived, __ATOMIC_ACQUIRE) < static_cast<int>(gridDim.x)) simt::spin_yield();
  }
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = *arrived;
}

TEST(Launch, BlocksOfAGroupAreResidentTogether) {
  for_each_schedule([] {
    Buffer<int> arrived(1);
    arrived.upload({0});
    const Buffer<int> out(4 * 64);
    launch(meeting_kernel, {.grid = 4, .block = 64, .group = 4}, arrived, out);
    EXPECT_EQ(out.host(), std::vector<int>(4 * 64, 4));
  });
}

__global__ void spin_kernel(int* flag) {
  while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) == 0) simt::spin_yield();
}
// Waits for the block before, which has a lower ticket; ticket order is start order.
__global__ void ticket_kernel(int* next_ticket, int* done, int* out, int direction) {
  if (threadIdx.x == 0) {
    const int ticket = __atomic_fetch_add(next_ticket, 1, __ATOMIC_RELAXED), awaited = ticket + direction;
    if (awaited >= 0) {
      while (__atomic_load_n(done + awaited, __ATOMIC_ACQUIRE) == 0) simt::spin_yield();
    }
    out[ticket] = awaited >= 0 ? out[awaited] + 1 : 0;
    __atomic_store_n(done + ticket, 1, __ATOMIC_RELEASE);
  }
}

TEST(Progress, ASpinningLaunchEndsWithTheLine) {
  for (const int workers : {1, 3}) {
    set_workers(workers);
    for_each_schedule([] {
      Buffer<int> flag(1);
      flag.upload({0});
      const std::string error = error_of([&] { launch(spin_kernel, {.grid = 5, .block = 40}, flag); });
      expect_error(error, "no progress: every running thread spins, here at launch_test.cu:");
    });
  }
  set_workers(0);
}

TEST(Progress, ABlockMayWaitForALowerTicketButNotForAHigherOne) {
  constexpr int kBlocks = 64;
  for (const int workers : {1, 3}) {
    set_workers(workers);
    for_each_schedule([] {
      Buffer<int> next(1), done(kBlocks + 1);
      const Buffer<int> out(kBlocks + 1);
      next.upload({0});
      done.upload(std::vector<int>(kBlocks + 1, 0));
      launch(ticket_kernel, {.grid = kBlocks, .block = 32}, next, done, out, -1);
      const auto result = out.host();
      for (int i = 0; i < kBlocks; ++i) ASSERT_EQ(result[i], i);

      next.upload({0});
      done.upload(std::vector<int>(kBlocks + 1, 0));
      expect_error(error_of([&] { launch(ticket_kernel, {.grid = kBlocks, .block = 32}, next, done, out, 1); }),
                   "no progress: every running thread spins");
    });
  }
  set_workers(0);
}

__global__ void trap_kernel() {
  if (blockIdx.x == 3 && threadIdx.x == 5) __trap();
}
TEST(Launch, ATrapNamesItsThread) {
  expect_error(error_of([] { launch(trap_kernel, {.grid = 9, .block = 32}); }),
               "in thread (5,0,0) = warp 0 lane 5, block (3,0,0)\n  launched at launch_test.cu:");
}

__global__ void store_kernel(float* p, int index) { p[index] = 1; }

TEST(DeviceMemory, EveryLaunchChecksTheRedZones) {
  const Buffer<float> x(10), y(3);
  expect_error(error_of([&] { launch(store_kernel, {.grid = 1, .block = 1}, x, 10); }),
               "(40 bytes) was written at offset 40, past its end");
  expect_error(error_of([&] { launch(store_kernel, {.grid = 1, .block = 1}, x, -1); }),
               "(40 bytes) was written 4 bytes before its start");
  EXPECT_EQ(error_of([&] { launch(store_kernel, {.grid = 1, .block = 1}, x, 9); }), "");
}

TEST(DeviceMemory, IsAlignedPoisonedAndBounded) {
  const Buffer<float> x(7);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(static_cast<float*>(x)) % 256, 0u);
  for (const float value : x.host()) EXPECT_TRUE(std::isnan(value));
  float host[8] = {};
  expect_error(error_of([&] { device_upload(x, host, sizeof host); }), "device_upload: 32 bytes at offset 0 leave");
  expect_error(error_of([&] { device_download(host, x + 4, 16); }), "device_download: 16 bytes at offset 16 leave");
  expect_error(error_of([&] { device_download(host, host, 4); }), "in no allocation");
  expect_error(error_of([&] { device_free(host); }), "no live allocation");
  EXPECT_EQ(error_of([] { device_free(nullptr); }), "");
}

}  // namespace
}  // namespace simt::testing
