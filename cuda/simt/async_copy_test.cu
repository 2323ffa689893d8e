#include <gtest/gtest.h>

#include <cmath>

#include "cuda/simt/simt.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

void expect_error(const std::string& error, const char* text) {
  EXPECT_NE(error.find(text), std::string::npos) << error;
}

// Each thread copies kBytes from x (the first `source_bytes` of them) and passes them on.
template <int kBytes>
__global__ void copy_kernel(const unsigned char* x, unsigned char* y, int source_bytes) {
  SIMT_DYN_SMEM(raw);
  Carver carver(raw);
  unsigned char* stage = carver.take<unsigned char>(64 * kBytes);
  const int t = static_cast<int>(threadIdx.x);
  cp_async<kBytes>(stage + t * kBytes, x + t * kBytes, source_bytes);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  const int from = 63 - t;
  for (int i = 0; i < kBytes; ++i) y[t * kBytes + i] = stage[from * kBytes + i];
}

template <int kBytes>
void check_copies() {
  std::vector<unsigned char> x(64 * kBytes);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<unsigned char>(i * 7 + 1);
  const Buffer<unsigned char> input(x), output(x.size());
  for (int source_bytes = 0; source_bytes <= kBytes; ++source_bytes) {
    launch(copy_kernel<kBytes>, {.grid = 1, .block = 64, .smem = 64 * kBytes}, input, output, source_bytes);
    const auto y = output.host();
    for (int t = 0; t < 64; ++t) {
      for (int i = 0; i < kBytes; ++i) {
        ASSERT_EQ(y[t * kBytes + i], i < source_bytes ? x[(63 - t) * kBytes + i] : 0) << source_bytes;
      }
    }
  }
}

TEST(AsyncCopy, CopiesAndFillsWithZeros) {
  for_each_schedule([] {
    check_copies<4>();
    check_copies<8>();
    check_copies<16>();
  });
}

// A pipeline of three stages. kGroupsLeft = 1 is right: one stage may still be on its way.
template <int kGroupsLeft>
__global__ void pipeline_kernel(const float* x, float* y, int steps) {
  SIMT_SHARED(float[3][32], stage);
  const int t = static_cast<int>(threadIdx.x);
  const auto load = [&](int step) {
    if (step < steps) cp_async<4>(&stage[step % 3][t], x + step * 32 + t);
    cp_async_commit();
  };
  load(0);
  load(1);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<kGroupsLeft>();
    __syncthreads();
    y[step * 32 + t] = stage[step % 3][31 - t];
    load(step + 2);
  }
  cp_async_wait<0>();
}

template <int kGroupsLeft>
int wrong_values() {
  std::vector<float> x(32 * 9);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  const Buffer<float> input(x), output(x.size());
  launch(pipeline_kernel<kGroupsLeft>, {.grid = 1, .block = 32}, input, output, 9);
  const auto y = output.host();
  int wrong = 0;
  for (int i = 0; i < 32 * 9; ++i) wrong += y[i] != x[i / 32 * 32 + 31 - i % 32];
  return wrong;
}

TEST(AsyncCopy, GroupsAreWaitedForInOrder) {
  for_each_schedule([] { EXPECT_EQ(wrong_values<1>(), 0) << current_schedule().name; });
}

TEST(AsyncCopy, AWaitForTooFewGroupsReadsPoisonWhereCopiesLandLate) {
  for_each_schedule([] {
    const bool late = current_schedule().landing != Landing::kEarly;
    EXPECT_EQ(wrong_values<2>() != 0, late) << current_schedule().name;
  });
}

__global__ void forgotten_kernel(const float* x) {
  SIMT_SHARED(float[4], stage);
  cp_async<16>(stage, x);
  cp_async_commit();
  cp_async_wait<1>();
}
__global__ void uncommitted_kernel(const float* x, float* y) {
  SIMT_SHARED(float[4], stage);
  cp_async<16>(stage, x);
  cp_async_wait<0>();  // of committed groups there are none
  y[0] = stage[0];
  cp_async_wait_all();
  y[1] = stage[1];
}
__global__ void misuse_kernel(const float* x, float* y, int mode) {
  SIMT_SHARED(float[8], stage);
  if (mode == 0) cp_async<16>(stage + 1, x);
  if (mode == 1) cp_async<16>(stage, x + 1);
  if (mode == 2) cp_async<8>(y, x);
  if (mode == 3) cp_async<4>(stage, x, 5);
}

TEST(AsyncCopy, ReportsMisuse) {
  const Buffer<float> x(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}), y(2);
  expect_error(error_of([&] { launch(forgotten_kernel, {.grid = 1, .block = 1}, x); }),
               "exits with a cp.async that it never waited for, issued at async_copy_test.cu:");
  launch(uncommitted_kernel, {.grid = 1, .block = 1}, x, y);
  EXPECT_TRUE(std::isnan(y.host()[0]));
  EXPECT_EQ(y.host()[1], 2);
  const char* expected[] = {"cp.async of 16 bytes: the destination is misaligned\n  at async_copy_test.cu:",
                            "cp.async of 16 bytes: the source is misaligned",
                            "cp.async of 8 bytes: the destination is not shared memory",
                            "cp.async of 4 bytes: 5 source bytes"};
  for (int mode = 0; mode < 4; ++mode) {
    expect_error(error_of([&] { launch(misuse_kernel, {.grid = 1, .block = 1}, x, y, mode); }), expected[mode]);
  }
}

}  // namespace
}  // namespace simt::testing
