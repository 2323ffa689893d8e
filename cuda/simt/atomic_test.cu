#include <gtest/gtest.h>

#include <limits>

#include "cuda/simt/simt.cuh"
#include "cuda/simt/test_look_back.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

constexpr int kThreads = 96, kBlocks = 5, kAll = kThreads * kBlocks;

// Every thread of every block adds to global memory, and to shared memory that one thread then adds up.
template <class T>
__global__ void add_kernel(T* total, T* shared_total, T one) {
  SIMT_SHARED(T, local);
  if (threadIdx.x == 0) local = T{};
  __syncthreads();
  atomicAdd(total, one);
  atomicAdd(&local, one);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(shared_total, local);
}

template <class T>
void check_add(T one, T all, T shared_all) {
  for_each_schedule([&] {
    Buffer<T> totals(2);
    totals.upload({T{}, T{}});
    T* p = totals;
    launch(add_kernel<T>, {.grid = kBlocks, .block = kThreads}, p, p + 1, one);
    const auto result = totals.host();
    EXPECT_TRUE(result[0] == all);
    EXPECT_TRUE(result[1] == shared_all);
  });
}

template <class T>
void check_add(T one, T all) {
  check_add(one, all, all);
}

TEST(Atomic, AddsForEveryType) {
  check_add<int>(-3, -3 * kAll);
  check_add<unsigned>(0x80000001u, static_cast<unsigned>(kAll));
  check_add<unsigned long long>(1ull << 33, (1ull << 33) * kAll);
  check_add<float>(0.25f, 0.25f * kAll);
  check_add<double>(0.25, 0.25 * kAll);
  // bfloat16 has 8 bits: from 128 on, adding 0.5 is a tie that rounds back; the blocks' 48 are exact.
  check_add<__nv_bfloat162>(__floats2bfloat162_rn(0.5f, -0.5f), __floats2bfloat162_rn(128.0f, -128.0f),
                            __floats2bfloat162_rn(240.0f, -240.0f));
  check_add<__half2>(__floats2half2_rn(0.5f, -0.5f), __floats2half2_rn(240.0f, -240.0f));
}

__global__ void operations_kernel(int* i, unsigned* u, unsigned long long* w, float* f, int* old) {
  const int t = static_cast<int>(threadIdx.x);
  atomicMin(i, 50 - t);
  atomicMax(i + 1, t);
  atomicSub(i + 2, 2);
  atomicAnd(u, ~(1u << t));
  atomicOr(u + 1, 1u << t);
  atomicXor(u + 2, 3u << t);
  atomicInc(u + 3, 9);  // counts 0 .. 9
  atomicDec(u + 4, 9);
  atomicMax(w, static_cast<unsigned long long>(t) << 40);
  atomicExch(f, 7.0f);
  old[t] = atomicCAS(i + 3, 0, t + 1);  // one thread wins
}

TEST(Atomic, OtherOperations) {
  for_each_schedule([] {
    Buffer<int> i(4), old(32);
    Buffer<unsigned> u(5);
    Buffer<unsigned long long> w(1);
    Buffer<float> f(1);
    i.upload({1000, -5, 100, 0});
    u.upload({0xFFFFFFFFu, 0, 0, 0, 0});
    w.upload({5});
    f.upload({1});
    launch(operations_kernel, {.grid = 1, .block = 32}, i, u, w, f, old);
    const int winner = i.host()[3];
    EXPECT_EQ(i.host(), (std::vector<int>{19, 31, 36, winner}));
    EXPECT_EQ(u.host(), (std::vector<unsigned>{0, 0xFFFFFFFFu, 1, 2, 8}));
    EXPECT_EQ(w.host()[0], 31ull << 40);
    EXPECT_EQ(f.host()[0], 7.0f);
    const auto seen = old.host();
    for (int t = 0; t < 32; ++t) EXPECT_EQ(seen[t], t + 1 == winner ? 0 : winner);
  });
}

__global__ void misaligned_kernel(int* p) { atomicAdd(reinterpret_cast<int*>(reinterpret_cast<char*>(p) + 2), 1); }
TEST(Atomic, ReportsMisalignment) {
  const Buffer<int> p(2);
  const std::string error = error_of([&] { launch(misaligned_kernel, {.grid = 1, .block = 1}, p); });
  EXPECT_NE(error.find("atomic: address is not aligned to its 4 bytes\n  at atomic_test.cu:"), std::string::npos)
      << error;
}

TEST(LookBack, ScansOverBlocks) {
  constexpr int kTiles = 50;
  std::vector<int> x(kTiles * 32), expected(x.size());
  int sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) expected[i] = sum += x[i] = static_cast<int>(i * 7 % 13) - 5;
  const Buffer<int> input(x), output(x.size());
  for (const int workers : {1, 2, 4}) {
    set_workers(workers);
    for_each_schedule([&] {
      Buffer<int> ticket(1);
      Buffer<unsigned long long> status(kTiles);
      ticket.upload({0});
      status.upload(std::vector<unsigned long long>(kTiles, 0));
      launch(look_back_kernel, {.grid = kTiles, .block = 32}, input, output, ticket, status);
      EXPECT_EQ(output.host(), expected);
    });
  }
  set_workers(0);
}

__global__ void match_kernel(unsigned* out) {
  const int lane = static_cast<int>(threadIdx.x);
  int all = 0, not_all = 0;
  out[lane] = __match_any_sync(~0u, lane % 3);
  out[32 + lane] = __match_all_sync(~0u, 42ull, &all);
  out[64 + lane] = __match_all_sync(~0u, lane / 31, &not_all);
  out[96 + lane] = static_cast<unsigned>(all * 2 + not_all);
}
TEST(Match, AnyAndAll) {
  const Buffer<unsigned> out(128);
  for_each_schedule([&] {
    launch(match_kernel, {.grid = 1, .block = 32}, out);
    const auto result = out.host();
    for (int lane = 0; lane < 32; ++lane) {
      unsigned same = 0;
      for (int other = lane % 3; other < 32; other += 3) same |= 1u << other;
      EXPECT_EQ(result[lane], same);
      EXPECT_EQ(result[32 + lane], ~0u);
      EXPECT_EQ(result[64 + lane], 0u);
      EXPECT_EQ(result[96 + lane], 2u);
    }
  });
}

__global__ void reduce_kernel(int* out, unsigned* unsigned_out) {
  const int lane = static_cast<int>(threadIdx.x);
  const unsigned mask = lane < 20 ? 0xFFFFFu : ~0xFFFFFu;
  out[lane * 3] = __reduce_add_sync(mask, lane - 7);
  out[lane * 3 + 1] = __reduce_min_sync(mask, -lane);
  out[lane * 3 + 2] = __reduce_max_sync(mask, -lane);
  unsigned_out[lane * 3] = __reduce_and_sync(mask, static_cast<unsigned>(lane) | 0x100u);
  unsigned_out[lane * 3 + 1] = __reduce_or_sync(mask, static_cast<unsigned>(lane));
  unsigned_out[lane * 3 + 2] = __reduce_xor_sync(mask, static_cast<unsigned>(lane));
}
TEST(Reduce, OverPartialMasks) {
  const Buffer<int> out(96);
  const Buffer<unsigned> unsigned_out(96);
  for_each_schedule([&] {
    launch(reduce_kernel, {.grid = 1, .block = 32}, out, unsigned_out);
    const auto result = out.host();
    const auto bits = unsigned_out.host();
    for (int lane = 0; lane < 32; ++lane) {
      const int first = lane < 20 ? 0 : 20, last = lane < 20 ? 19 : 31;
      int sum = 0;
      unsigned all = ~0u, any = 0, odd = 0;
      for (int i = first; i <= last; ++i) {
        sum += i - 7;
        all &= static_cast<unsigned>(i) | 0x100u, any |= static_cast<unsigned>(i), odd ^= static_cast<unsigned>(i);
      }
      EXPECT_EQ(result[lane * 3], sum);
      EXPECT_EQ(result[lane * 3 + 1], -last);
      EXPECT_EQ(result[lane * 3 + 2], -first);
      EXPECT_EQ(bits[lane * 3], all);
      EXPECT_EQ(bits[lane * 3 + 1], any);
      EXPECT_EQ(bits[lane * 3 + 2], odd);
    }
  });
}

}  // namespace
}  // namespace simt::testing
