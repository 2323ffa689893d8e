#include <gtest/gtest.h>

#include <cmath>

#include "cuda/simt/simt.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

void expect_error(const std::string& error, const char* text) {
  EXPECT_NE(error.find(text), std::string::npos) << error;
}

__global__ void fresh_kernel(float* out) {
  SIMT_SHARED(float[8], a);
  SIMT_SHARED(double, b);
  SIMT_DYN_SMEM(raw);
  if (threadIdx.x == 0) {
    out[0] = a[3];
    out[1] = static_cast<float>(b);
    out[2] = reinterpret_cast<float*>(raw)[5];
    a[3] = 1, b = 1, reinterpret_cast<float*>(raw)[5] = 1;  // the next block must not find this
  }
}

TEST(SharedMemory, IsPoisonedForEveryBlock) {
  const Buffer<float> out(3);
  set_workers(1);
  for (int repeat = 0; repeat < 2; ++repeat) {
    launch(fresh_kernel, {.grid = 4, .block = 32, .smem = 64}, out);
    for (const float value : out.host()) EXPECT_TRUE(std::isnan(value));
  }
  set_workers(0);
}

__global__ void objects_kernel(int* out) {
  SIMT_SHARED(int[32], first);
  SIMT_SHARED(int[32], second);  // same type, another object
  SIMT_DYN_SMEM(raw);
  Carver carver(raw);
  char* odd = carver.take<char>(5);
  int* third = carver.take<int>(32, 128);
  const int t = static_cast<int>(threadIdx.x);
  first[t] = t, second[t] = 100 + t, third[t] = 200 + t;
  if (t < 5) odd[t] = 'x';
  __syncthreads();
  const int from = 31 - t;
  out[t] = first[from] + second[from] + third[from];
  if (t == 0) out[32] = static_cast<int>(reinterpret_cast<std::uintptr_t>(third) % 128);
}

TEST(SharedMemory, StaticObjectsAndCarvedPiecesAreApart) {
  const Buffer<int> out(33);
  for_each_schedule([&] {
    launch(objects_kernel, {.grid = 1, .block = 32, .smem = 128 + 128}, out);
    const auto result = out.host();
    for (int t = 0; t < 32; ++t) EXPECT_EQ(result[t], 300 + 3 * (31 - t));
    EXPECT_EQ(result[32], 0);
  });
}

__global__ void past_end_kernel() {
  SIMT_SHARED(float[32], a);
  a[threadIdx.x + 1] = 0;
}
__global__ void before_start_kernel() {
  SIMT_SHARED(float[32], a);
  a[static_cast<int>(threadIdx.x) - 2] = 0;
}
__global__ void carved_kernel() {
  SIMT_DYN_SMEM(raw);
  Carver carver(raw);
  float* a = carver.take<float>(8);
  float* b = carver.take<float>(8);
  a[threadIdx.x] = b[threadIdx.x] = 0;
}
__global__ void raw_kernel() {
  SIMT_DYN_SMEM(raw);
  raw[threadIdx.x] = 0;
}

TEST(SharedMemory, ReportsWritesOutOfBounds) {
  const Launch one_warp{.grid = 1, .block = 32, .smem = 0};
  expect_error(error_of([&] { launch(past_end_kernel, one_warp); }),
               "shared memory written 0 bytes past the end of a static object of 128 bytes");
  expect_error(error_of([&] { launch(before_start_kernel, one_warp); }),
               "shared memory written 8 bytes before the start of a static object of 128 bytes");
  expect_error(error_of([] { launch(carved_kernel, {.grid = 1, .block = 9, .smem = 64}); }),
               "past the end of Carver piece 0 of 32 bytes");
  expect_error(error_of([] { launch(raw_kernel, {.grid = 2, .block = 32, .smem = 31}); }),
               "shared memory written 0 bytes past the end of the dynamic memory of 31 bytes");
}

__global__ void too_much_kernel() {
  SIMT_SHARED(float[12 * 1024 + 1], a);
  a[0] = 0;
}
__global__ void with_static_kernel() {
  SIMT_SHARED(float[1024], a);
  a[threadIdx.x] = 0;
}
__global__ void disagree_kernel() {
  SIMT_DYN_SMEM(raw);
  Carver carver(raw);
  carver.take<float>(threadIdx.x < 16 ? 8 : 4);
}
__global__ void carve_too_much_kernel() {
  SIMT_DYN_SMEM(raw);
  Carver carver(raw);
  carver.take<float>(9);
}

TEST(SharedMemory, ReportsSizesThatCannotBe) {
  expect_error(error_of([] { launch(too_much_kernel, {.grid = 1, .block = 32}); }),
               "49156 bytes of static shared memory; the limit is 49152");
  expect_error(error_of([] { launch(with_static_kernel, {.grid = 1, .block = 32, .smem = 227 * 1024}); }),
               "4096 bytes static and 232448 dynamic; the architecture has 232448");
  expect_error(error_of([] { launch(disagree_kernel, {.grid = 1, .block = 32, .smem = 64}); }),
               "Carver: piece 0 has 16 bytes here and 32 in another thread");
  expect_error(error_of([] { launch(carve_too_much_kernel, {.grid = 1, .block = 32, .smem = 32}); }),
               "Carver: piece 0 ends at byte 36; the launch gave 32 bytes");
}

__global__ void vector_kernel(const float* x, int offset) {
  using Vec4 = Vec<float, 4>;  // a comma would end the macro's first argument
  SIMT_SHARED(Vec4, a);
  a = load_vec<4>(x + offset);
}

TEST(VectorAccess, ReportsMisalignment) {
  const Buffer<float> x(8);
  EXPECT_EQ(error_of([&] { launch(vector_kernel, {.grid = 1, .block = 1}, x, 4); }), "");
  expect_error(error_of([&] { launch(vector_kernel, {.grid = 1, .block = 1}, x, 2); }),
               "vector access: address ends in 8, not on a 16-byte boundary\n  at shared_memory_test.cu:");
}

}  // namespace
}  // namespace simt::testing
