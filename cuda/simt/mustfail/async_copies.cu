// Asynchronous copies: waited for too little, read too early, never committed, overwritten on their way.
#include "cuda/simt/mustfail/case.h"

namespace simt::mustfail {
namespace {

// Three stages, two copies ahead of the one that is read.
template <bool kBad>
__global__ void wait_for_too_few(Memory m) {
  SIMT_SHARED(float[3][32], stage);
  const int t = static_cast<int>(threadIdx.x);
  for (int step = 0; step < 3; ++step) {
    cp_async<4>(&stage[step][t], m.x + step * 32 + t);
    cp_async_commit();
  }
  cp_async_wait<kBad ? 3 : 2>();
  __syncthreads();
  m.y[t] = stage[0][31 - t];  // reported
  cp_async_wait<0>();
}

template <bool kBad>
__global__ void read_before_wait(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  cp_async<4>(&s[t], m.x + t);
  cp_async_commit();
  if (!kBad) cp_async_wait<0>();
  m.y[t] = s[t];  // reported
  cp_async_wait<0>();
}

// wait_group waits for committed groups alone.
template <bool kBad>
__global__ void commit_missing(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  cp_async<4>(&s[t], m.x + t);
  if (!kBad) cp_async_commit();
  cp_async_wait<0>();
  m.y[t] = s[t];  // reported
  cp_async_wait_all();
}

template <bool kBad>
__global__ void never_waited_for(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  cp_async<4>(&s[t], m.x + t);  // reported
  cp_async_commit();
  if (!kBad) cp_async_wait<0>();
  m.y[t] = m.x[t];
}

// A wait is for the thread's own copies; others need a barrier after it.
template <bool kBad>
__global__ void barrier_before_wait(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  cp_async<4>(&s[t], m.x + t);
  cp_async_wait_all();
  if (!kBad) __syncthreads();
  m.y[t] = s[63 - t];  // reported
}

// The next copy into a stage is issued while others still read it.
template <bool kBad>
__global__ void stage_overwritten(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int step = 0; step < 3; ++step) {
    cp_async<4>(&s[t], m.x + step * 64 + t);
    cp_async_wait_all();
    __syncthreads();
    sum += s[63 - t];  // reported
    if (!kBad) __syncthreads();
  }
  m.y[t] = sum;
}

// The source must stay as it is until the copy has been waited for.
template <bool kBad>
__global__ void source_overwritten(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  m.unset[t] = m.x[t];
  __syncthreads();
  cp_async<4>(&s[t], m.unset + t);
  if (!kBad) cp_async_wait_all();
  __syncthreads();
  m.unset[63 - t] = 0;  // reported
  cp_async_wait_all();
  m.y[t] = s[t];
}

template <bool kBad>
__global__ void more_source_than_copy(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  cp_async<4>(&s[t], m.x + t, kBad ? 5 : 4);  // reported
  cp_async_wait_all();
  m.y[t] = s[t];
}

template <bool kBad>
__global__ void copy_to_global_memory(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  cp_async<4>(kBad ? m.y + t : &s[t], m.x + t);  // reported
  cp_async_wait_all();
  m.y[t] = 2 * m.x[t];
}

const Case kCases[] = {
    {"wait_for_too_few", wait_for_too_few<false>, wait_for_too_few<true>, {.grid = 1, .block = 32}},
    {"read_before_wait", read_before_wait<false>, read_before_wait<true>, {.grid = 1, .block = 64}},
    {"commit_missing", commit_missing<false>, commit_missing<true>, {.grid = 1, .block = 64}},
    {"never_waited_for", never_waited_for<false>, never_waited_for<true>, {.grid = 1, .block = 64}},
    {"barrier_before_wait", barrier_before_wait<false>, barrier_before_wait<true>, {.grid = 1, .block = 64}},
    {"stage_overwritten", stage_overwritten<false>, stage_overwritten<true>, {.grid = 1, .block = 64}},
    {"source_overwritten", source_overwritten<false>, source_overwritten<true>, {.grid = 1, .block = 64}},
    {"more_source_than_copy", more_source_than_copy<false>, more_source_than_copy<true>, {.grid = 1, .block = 64}},
    {"copy_to_global_memory", copy_to_global_memory<false>, copy_to_global_memory<true>, {.grid = 1, .block = 64}},
};

}  // namespace

std::span<const Case> async_copy_cases() { return kCases; }

}  // namespace simt::mustfail
