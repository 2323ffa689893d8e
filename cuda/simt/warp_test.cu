#include <gtest/gtest.h>

#include "cuda/simt/simt.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

enum Kind { kIndex, kUp, kDown, kXor };

template <class T>
__global__ void shuffle_kernel(T* out, int kind, int argument, int width) {
  const int lane = static_cast<int>(threadIdx.x);
  const T value = static_cast<T>(1000 + lane);
  T result = 0;
  if (kind == kIndex) result = __shfl_sync(~0u, value, argument, width);
  if (kind == kUp) result = __shfl_up_sync(~0u, value, static_cast<unsigned>(argument), width);
  if (kind == kDown) result = __shfl_down_sync(~0u, value, static_cast<unsigned>(argument), width);
  if (kind == kXor) result = __shfl_xor_sync(~0u, value, argument, width);
  out[lane] = result;
}

// PTX ISA, shfl.sync, written as the manual's pseudocode: segmask and bounds from the CUDA width.
int source_lane(int kind, int lane, int b, int width) {
  const int clamp = kind == kUp ? 0 : 31, segmask = 32 - width;
  const int max_lane = (lane & segmask) | (clamp & ~segmask & 31), min_lane = lane & segmask;
  int j = 0;
  bool inside = false;
  switch (kind) {
    case kUp:
      j = lane - b;
      inside = j >= max_lane;
      break;
    case kDown:
      j = lane + b;
      inside = j <= max_lane;
      break;
    case kXor:
      j = lane ^ b;
      inside = j <= max_lane;
      break;
    default:
      j = min_lane | (b & ~segmask & 31);
      inside = j <= max_lane;
  }
  return inside ? j : lane;
}

template <class T>
void check_shuffles() {
  const Buffer<T> out(32);
  for (const int kind : {kIndex, kUp, kDown, kXor}) {
    for (int width = 1; width <= 32; width *= 2) {
      for (int argument = 0; argument < 32; ++argument) {
        launch(shuffle_kernel<T>, {.grid = 1, .block = 32}, out, kind, argument, width);
        const auto result = out.host();
        for (int lane = 0; lane < 32; ++lane) {
          ASSERT_EQ(result[lane], static_cast<T>(1000 + source_lane(kind, lane, argument, width)))
              << "kind " << kind << " width " << width << " argument " << argument << " lane " << lane;
        }
      }
    }
  }
}

TEST(Shuffle, AllKindsWidthsAndArguments) {
  for_each_schedule([] {
    check_shuffles<int>();
    check_shuffles<float>();
    check_shuffles<double>();
  });
}

__global__ void partial_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const unsigned even = 0x55555555u, mask = lane % 2 == 0 ? even : ~even;
  int sum = lane;  // both halves of the warp reduce at once, each among its own lanes
  for (int offset = 16; offset >= 2; offset /= 2) sum += __shfl_xor_sync(mask, sum, offset);
  out[lane] = sum;
}

TEST(Shuffle, DisjointMasksDoNotMix) {
  const Buffer<int> out(32);
  for_each_schedule([&] {
    launch(partial_kernel, {.grid = 1, .block = 32}, out);
    const auto result = out.host();
    for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(result[lane], lane % 2 == 0 ? 240 : 256);
  });
}

__global__ void outside_kernel(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_down_sync(0xFFFFu, 1.0f, 1);
}

TEST(Shuffle, ALaneOutsideTheMaskGivesPoison) {
  const Buffer<float> out(16);
  launch(outside_kernel, {.grid = 1, .block = 32}, out);
  const auto result = out.host();
  for (int lane = 0; lane < 15; ++lane) EXPECT_EQ(result[lane], 1.0f);
  EXPECT_NE(result[15], result[15]);
}

__global__ void vote_kernel(unsigned* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane == 9) return;  // exited lanes do not count
  const unsigned mask = ~(1u << 9);
  out[lane * 4] = __ballot_sync(mask, lane % 5 == 0);
  out[lane * 4 + 1] = static_cast<unsigned>(__any_sync(mask, lane == 31));
  out[lane * 4 + 2] = static_cast<unsigned>(__all_sync(mask, lane != 31));
  out[lane * 4 + 3] = static_cast<unsigned>(__all_sync(mask, 1) + 2 * __any_sync(mask, 0));
}

TEST(Vote, BallotAnyAll) {
  const Buffer<unsigned> out(128);
  for_each_schedule([&] {
    launch(vote_kernel, {.grid = 1, .block = 32}, out);
    const auto result = out.host();
    for (int lane = 0; lane < 32; ++lane) {
      if (lane == 9) continue;
      EXPECT_EQ(result[lane * 4], 0x42108421u);
      EXPECT_EQ(result[lane * 4 + 1], 1u);
      EXPECT_EQ(result[lane * 4 + 2], 0u);
      EXPECT_EQ(result[lane * 4 + 3], 1u);
    }
  });
}

__global__ void short_block_kernel(int* out) {
  __syncwarp();
  out[threadIdx.x] = __popc(__ballot_sync(~0u, 1));
}

TEST(Vote, LanesThatNeverWereDoNotCount) {
  const Buffer<int> out(20);
  launch(short_block_kernel, {.grid = 1, .block = 20}, out);
  EXPECT_EQ(out.host(), std::vector<int>(20, 20));
}

__global__ void mismatched_kernel() {
  if (threadIdx.x % 2 == 0) {
    __syncwarp();
  } else {
    __any_sync(~0u, 1);
  }
}
__global__ void two_lines_kernel(int* out) {
  if (threadIdx.x % 2 == 0) {
    out[0] = __shfl_sync(~0u, 1, 0);
  } else {
    out[1] = __shfl_sync(~0u, 1, 0);
  }
}
__global__ void masks_kernel() { __syncwarp(threadIdx.x < 4 ? 0xFFu : 0xF0u); }
__global__ void not_member_kernel() { __syncwarp(1u); }
__global__ void branch_kernel(float* out) {
  if (threadIdx.x < 4) out[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);
  __syncthreads();
}
__global__ void width_kernel(int* out) { out[threadIdx.x] = __shfl_sync(~0u, 1, 0, 5); }

void expect_error(const std::string& error, const char* text) {
  EXPECT_NE(error.find(text), std::string::npos) << error;
}

TEST(Collective, ReportsMisuse) {
  const Buffer<int> out(32);
  const Buffer<float> values(32);
  for_each_schedule([&] {
    const Launch one_warp{.grid = 1, .block = 32};
    expect_error(error_of([&] { launch(mismatched_kernel, one_warp); }), "mismatched __");
    expect_error(error_of([&] { launch(two_lines_kernel, one_warp, out); }),
                 "divergent __shfl_sync mask 0xffffffff: lanes");
    expect_error(error_of([&] { launch(masks_kernel, one_warp); }), "__syncwarp");
    expect_error(error_of([&] { launch(not_member_kernel, one_warp); }),
                 "the calling lane is not in its mask 0x00000001");
    expect_error(error_of([&] { launch(branch_kernel, one_warp, values); }), "__shfl_xor_sync at warp_test.cu:");
    expect_error(error_of([&] { launch(width_kernel, one_warp, out); }), "width = 5; want a power of two");
  });
}

}  // namespace
}  // namespace simt::testing
