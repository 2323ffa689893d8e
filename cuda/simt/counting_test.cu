// Counters against counts by hand.
#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/simt/counters.h"
#include "cuda/simt/test_gemm.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

constexpr auto kBf16 = static_cast<std::size_t>(TensorType::kBf16);

// Counts one launch, and checks that no schedule changes the counts.
template <class Work>
Counters count(Work work) {
  set_counting(true);
  Counters first;
  for_each_schedule([&] {
    for (const int workers : {1, 3}) {
      set_workers(workers);
      work();
      const Counters& now = last_counters();
      if (!first.sees_plain_accesses) first = now;
      EXPECT_EQ(first.global_read.units, now.global_read.units);
      EXPECT_EQ(first.global_write.bytes, now.global_write.bytes);
      EXPECT_EQ(first.shared_read.units, now.shared_read.units);
      EXPECT_EQ(first.shared_write.units, now.shared_write.units);
      EXPECT_EQ(first.float_operations, now.float_operations);
      EXPECT_EQ(first.special_functions, now.special_functions);
      EXPECT_EQ(first.atomics, now.atomics);
      EXPECT_EQ(first.longest_block_operations, now.longest_block_operations);
      EXPECT_EQ(first.longest_thread_steps, now.longest_thread_steps);
    }
  });
  set_workers(0);
  set_counting(false);
  EXPECT_TRUE(first.sees_plain_accesses);
  return first;
}

void expect_traffic(const Traffic& t, std::uint64_t instructions, std::uint64_t bytes, std::uint64_t units,
                    std::uint64_t ideal_units) {
  EXPECT_EQ(t.instructions, instructions);
  EXPECT_EQ(t.bytes, bytes);
  EXPECT_EQ(t.units, units);
  EXPECT_EQ(t.ideal_units, ideal_units);
}

__global__ void copy_kernel(const float* x, float* y, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = x[i];
}
__global__ void vector_copy_kernel(const float* x, float* y, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (i < n) store_vec(y + i, load_vec<4>(x + i));
}

TEST(Counting, ACopyMovesEachByteOnce) {
  constexpr int kN = 1000;
  const Buffer<float> x(std::vector<float>(kN, 1.0f)), y(kN);
  Counters c = count([&] { launch(copy_kernel, {.grid = 8, .block = 128}, x, y, kN); });
  // 31 whole warps and one of 8 lanes; 4 sectors a warp, 1 for the last.
  expect_traffic(c.global_read, 32, 4 * kN, 31 * 4 + 1, 31 * 4 + 1);
  expect_traffic(c.global_write, 32, 4 * kN, 31 * 4 + 1, 31 * 4 + 1);
  expect_traffic(c.shared_read, 0, 0, 0, 0);
  EXPECT_EQ(c.longest_block_bytes, 2u * 4 * 128);
  EXPECT_EQ(c.longest_block_operations, 0u);
  EXPECT_EQ(c.longest_thread_steps, 2u);  // a load and a store
  EXPECT_GT(c.blocks, 0u);
  EXPECT_EQ(c.balanced_block_bytes, (c.global_read.bytes + c.global_write.bytes) / c.blocks);
  EXPECT_EQ(c.float_operations, 0u);

  c = count([&] { launch(vector_copy_kernel, {.grid = 2, .block = 128}, x, y, kN); });
  // 250 threads of 16 bytes: 7 whole warps of 16 sectors and one of 26 lanes with 13.
  expect_traffic(c.global_read, 8, 4 * kN, 7 * 16 + 13, 7 * 16 + 13);
  expect_traffic(c.global_write, 8, 4 * kN, 7 * 16 + 13, 7 * 16 + 13);
}

template <int kPad>
__global__ void transpose_kernel(const float* x, float* y, int n) {
  SIMT_SHARED(float[32][32 + kPad], tile);
  const int column = static_cast<int>(threadIdx.x), first = static_cast<int>(threadIdx.y);
  const int bx = static_cast<int>(blockIdx.x) * 32, by = static_cast<int>(blockIdx.y) * 32;
  for (int row = first; row < 32; row += 8) tile[row][column] = x[(by + row) * n + bx + column];
  __syncthreads();
  for (int row = first; row < 32; row += 8) y[(bx + row) * n + by + column] = tile[column][row];
}

TEST(Counting, PaddingRemovesTheBankConflictsOfATranspose) {
  constexpr int kN = 64, kRows = kN * kN / 32;  // rows of 32 in all tiles; each is one access of one warp
  const Buffer<float> x(std::vector<float>(kN * kN, 1.0f)), y(kN * kN);
  const Launch grid{.grid = dim3(2, 2), .block = dim3(32, 8)};
  const Counters plain = count([&] { launch(transpose_kernel<0>, grid, x, y, kN); });
  const Counters padded = count([&] { launch(transpose_kernel<1>, grid, x, y, kN); });
  for (const Counters& c : {plain, padded}) {
    expect_traffic(c.global_read, kRows, 4 * kN * kN, 4 * kRows, 4 * kRows);
    expect_traffic(c.global_write, kRows, 4 * kN * kN, 4 * kRows, 4 * kRows);
    expect_traffic(c.shared_write, kRows, 4 * kN * kN, kRows, kRows);
    EXPECT_EQ(c.barriers, 4u);
    EXPECT_EQ(c.float_operations, 0u);
    EXPECT_EQ(c.longest_block_bytes, 2u * 4 * 32 * 32);
    EXPECT_EQ(c.longest_thread_steps, 4u * (2 + 2) + 1);  // 4 rows there and back, one barrier
  }
  expect_traffic(plain.shared_read, kRows, 4 * kN * kN, 32 * kRows, kRows);  // a column lies in one bank
  expect_traffic(padded.shared_read, kRows, 4 * kN * kN, kRows, kRows);
  EXPECT_EQ(plain.bank_conflicts(), 31u * kRows);
  EXPECT_EQ(padded.bank_conflicts(), 0u);
}

// Vectors of 8 bytes, by even lanes alone.
__global__ void half_empty_kernel(float* y) {
  SIMT_SHARED(float[64], s);
  if (threadIdx.x % 2 == 0) store_vec(s + 2 * threadIdx.x, Vec<float, 2>{});
  __syncwarp();
  y[threadIdx.x] = s[threadIdx.x];
}

TEST(Counting, AWideAccessTakesAWavefrontForEachHalfWarp) {
  const Buffer<float> y(32);
  const Counters c = count([&] { launch(half_empty_kernel, {.grid = 1, .block = 32}, y); });
  expect_traffic(c.shared_write, 1, 16 * 8, 2, 2);
}

__global__ void strided_kernel(const float* x, float* y, int stride) { y[threadIdx.x] = x[threadIdx.x * stride]; }

TEST(Counting, AStridedGatherTouchesMoreSectorsThanItNeeds) {
  const Buffer<float> x(std::vector<float>(32 * 8, 1.0f)), y(32);
  for (const int stride : {1, 2, 3, 8}) {
    const Counters c = count([&] { launch(strided_kernel, {.grid = 1, .block = 32}, x, y, stride); });
    // 31 strides and one element of 4 bytes, from a sector boundary; beyond 8 elements each has its own sector.
    const std::uint64_t sectors = static_cast<std::uint64_t>(31 * stride * 4) / 32 + 1;
    expect_traffic(c.global_read, 1, 128, sectors, 4);
    expect_traffic(c.global_write, 1, 128, 4, 4);
  }
}

__global__ void broadcast_kernel(const float* x, float* y) { y[threadIdx.x] = x[blockIdx.x] + expf(x[0]); }

TEST(Counting, ABroadcastIsOneSector) {
  const Buffer<float> x(std::vector<float>(2, 1.0f)), y(64);
  const Counters c = count([&] { launch(broadcast_kernel, {.grid = 2, .block = 64}, x, y); });
  expect_traffic(c.global_read, 2 * 2 * 2, 8 * 4, 8, 8);
  EXPECT_EQ(c.special_functions, 128u);
}

TEST(Counting, ATiledProduct) {
  using Tile = GemmTile;
  constexpr int kM = 128, kN = 64, kK = 96, kBlocks = 2, kSteps = 3;
  const Buffer<__nv_bfloat16> a(std::vector<__nv_bfloat16>(kM * kK, __float2bfloat16(1)));
  const Buffer<__nv_bfloat16> b(std::vector<__nv_bfloat16>(kN * kK, __float2bfloat16(1)));
  const Buffer<float> out(kM * kN);
  const Counters c = count([&] { gemm(a, b, out, kM, kN, kK); });
  // Each block and step copies two tiles of 64 rows of 64 bytes: a warp's access is 8 rows of 4 chunks, 2 sectors each.
  constexpr int kTileBytes = (Tile::kM + Tile::kN) * Tile::kK * 2, kCopies = kBlocks * kSteps * kTileBytes;
  expect_traffic(c.global_read, kCopies / 512, kCopies, kCopies / 32, kCopies / 32);
  // The same bytes arrive in shared memory; rows are 80 bytes apart there, so two rows share banks in a quarter warp.
  EXPECT_EQ(c.shared_write.bytes, static_cast<std::uint64_t>(kCopies));
  EXPECT_EQ(c.shared_write.ideal_units, static_cast<std::uint64_t>(kCopies / 128));
  // A warp reads 32 rows of A and 32 of B, 32 bytes wide, by 4 ldmatrix.x4 of 512 bytes, at each k of 16.
  constexpr int kLoads = kBlocks * kSteps * 2 * 4 * 4;
  expect_traffic(c.shared_read, kLoads, kLoads * 512, kLoads * 4, kLoads * 4);
  EXPECT_EQ(c.tensor_operations[kBf16], 2ull * kM * kN * kK);
  EXPECT_EQ(c.warp_operations, static_cast<std::uint64_t>(kLoads + kM * kN * kK / (16 * 8 * 16)));
  EXPECT_EQ(c.barriers, static_cast<std::uint64_t>(kBlocks * kSteps * 2));
  // D: each warp store is 8 rows of 4 lanes, every second column: 16 of 32 bytes in each of 8 sectors.
  constexpr int kStores = kM * kN / 32;
  expect_traffic(c.global_write, kStores, 4 * kM * kN, 8 * kStores, 4 * kStores);
  EXPECT_EQ(c.longest_block_bytes, static_cast<std::uint64_t>(kCopies / kBlocks + 4 * kM * kN / kBlocks));
  EXPECT_EQ(c.float_operations, 0u);  // the sums are those of the tensor cores
  EXPECT_EQ(c.longest_block_operations, 2ull * kM * kN * kK / kBlocks);
}

// y = sum over the row of x[i]^2, divided by n, in one thread a row or in a warp a row.
__global__ void serial_mean_kernel(const float* x, float* y, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += x[threadIdx.x * n + i] * x[threadIdx.x * n + i];
  y[threadIdx.x] = sum / static_cast<float>(n);
}
__global__ void warp_mean_kernel(const float* x, float* y, int n) {
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += 32) {
    const float value = x[blockIdx.x * n + i];
    sum = fmaf(value, value, sum);
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (threadIdx.x == 0) y[blockIdx.x] = sum / static_cast<float>(n);
}

TEST(Counting, ASerialKernelHasALongChain) {
  constexpr int kRows = 32, kN = 320;
  const Buffer<float> x(std::vector<float>(kRows * kN, 1.0f)), y(kRows);
  const Counters serial = count([&] { launch(serial_mean_kernel, {.grid = 1, .block = kRows}, x, y, kN); });
  const Counters parallel = count([&] { launch(warp_mean_kernel, {.grid = kRows, .block = 32}, x, y, kN); });
  EXPECT_EQ(serial.float_operations, kRows * (2ull * kN + 1));
  EXPECT_EQ(serial.longest_block_bytes, 4ull * kRows * (kN + 1));
  EXPECT_EQ(serial.longest_block_operations, serial.float_operations);
  EXPECT_GE(serial.longest_thread_steps, kN + 1 + 2ull * kN + 1);  // one load of x[i] or two
  // 2 for each element, 5 additions a lane, one division a row. The same bytes, in blocks of one row.
  EXPECT_EQ(parallel.float_operations, kRows * (2ull * kN + 32 * 5 + 1));
  EXPECT_EQ(parallel.global_read.bytes, serial.global_read.bytes / (serial.global_read.instructions / kN));
  EXPECT_EQ(parallel.longest_block_bytes, 4ull * (kN + 1));
  EXPECT_EQ(parallel.longest_block_operations, 2ull * kN + 32 * 5 + 1);
  // Lane 0: 10 elements, 5 shuffles and additions, division and store.
  EXPECT_EQ(parallel.longest_thread_steps, 10ull * (1 + 2) + 5 * 2 + 1 + 1);
}

__global__ void scalar_kernel(const float* x, float* y) {
  const float v = x[threadIdx.x];
  float r = (v + 1.5f) * v - 0.25f;                 // 3
  r = fmaf(r, v, 2.0f) / (v + 3.0f);                // 2 + 1 + 1
  if (threadIdx.x % 2 == 0) r = sqrtf(r) * v;       // 2 in half of the threads
  y[threadIdx.x] = fmaxf(r, -r) > 7.0f ? 0.0f : r;  // comparisons, signs: none
}
__global__ void half_kernel(const __nv_bfloat16* x, __half* h, float* y) {
  const __nv_bfloat16 v = x[threadIdx.x];
  const float wide = __bfloat162float(v);                   // conversions: none
  h[threadIdx.x] = __hfma(__float2half(wide), h[0], h[1]);  // 2
  // 2, and a special function
  y[threadIdx.x] = __bfloat162float(__hmul(v, hrsqrt(v))) + static_cast<float>(threadIdx.x);
}
__global__ void float_atomic_kernel(float* p) { atomicAdd(p, 1.0f); }

TEST(Counting, ScalarArithmetic) {
  const Buffer<float> x(std::vector<float>(64, 1.0f)), y(64);
  EXPECT_EQ(count([&] { launch(scalar_kernel, {.grid = 1, .block = 64}, x, y); }).float_operations, 64u * 7 + 32 * 2);
  const Buffer<__nv_bfloat16> b(std::vector<__nv_bfloat16>(64, __float2bfloat16(1)));
  const Buffer<__half> h(std::vector<__half>(64, __float2half(1)));
  Counters c = count([&] { launch(half_kernel, {.grid = 1, .block = 64}, b, h, y); });
  EXPECT_EQ(c.float_operations, 64u * 4);
  EXPECT_EQ(c.special_functions, 64u);
  // An atomic addition is an atomic, however often it has to be tried.
  c = count([&] { launch(float_atomic_kernel, {.grid = 8, .block = 64}, x); });
  EXPECT_EQ(c.atomics, 512u);
  EXPECT_EQ(c.float_operations, 0u);
}

__global__ void atomic_kernel(int* p) { atomicAdd(p, 1); }

TEST(Counting, Atomics) {
  const Buffer<int> p(std::vector<int>(1, 0));
  EXPECT_EQ(count([&] { launch(atomic_kernel, {.grid = 3, .block = 40}, p); }).atomics, 120u);
}

TEST(Counting, LaunchesAddUp) {
  const Buffer<int> p(std::vector<int>(1, 0));
  set_counting(true);
  for (const unsigned grid : {3u, 5u}) launch(atomic_kernel, {.grid = grid, .block = 40}, p);
  set_counting(false);
  EXPECT_EQ(last_counters().atomics, 200u);
  EXPECT_EQ(sum_of_counters().atomics, 320u);
  EXPECT_EQ(sum_of_counters().longest_block_operations, 80u);  // one block after the other
  const auto list = named(sum_of_counters());
  EXPECT_NE(std::ranges::find(list, std::pair<std::string, std::uint64_t>{"atomics", 320}), list.end());
  set_counting(true);
  EXPECT_EQ(sum_of_counters().atomics, 0u);
  set_counting(false);
}

TEST(Counting, IsOffByDefault) {
  const Buffer<int> p(std::vector<int>(1, 0));
  set_counting(true);
  launch(atomic_kernel, {.grid = 1, .block = 1}, p);
  set_counting(false);
  launch(atomic_kernel, {.grid = 1, .block = 7}, p);
  EXPECT_EQ(last_counters().atomics, 1u);
}

}  // namespace
}  // namespace simt::testing
