// Accesses outside of an object: past its end, before its start, by the width of a vector.
#include "cuda/simt/mustfail/case.h"

namespace simt::mustfail {
namespace {

template <bool kBad>
__global__ void shared_write_past_the_end(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  const int i = kBad ? t + 1 : t;
  s[i] = m.x[t];  // reported
  m.y[t] = s[i];
}

template <bool kBad>
__global__ void shared_write_before_the_start(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  const int i = kBad ? t - 1 : t;
  s[i] = m.x[t];  // reported
  m.y[t] = s[i];
}

template <bool kBad>
__global__ void shared_read_past_the_end(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  s[t] = m.x[t];
  __syncthreads();
  const int next = kBad ? t + 1 : (t + 1) % 64;
  m.y[t] = s[next];  // reported
}

template <bool kBad>
__global__ void shared_read_before_the_start(Memory m) {
  SIMT_SHARED(float[64], s);
  const int t = static_cast<int>(threadIdx.x);
  s[t] = m.x[t];
  __syncthreads();
  const int previous = kBad ? t - 1 : (t + 63) % 64;
  m.y[t] = s[previous];  // reported
}

template <bool kBad>
__global__ void global_write_past_the_end(Memory m) {
  const int i = static_cast<int>(threadIdx.x) + (kBad ? Memory::kLength - 63 : Memory::kLength - 64);
  m.y[i] = 1;  // reported
}

template <bool kBad>
__global__ void global_write_before_the_start(Memory m) {
  const int i = static_cast<int>(threadIdx.x) - (kBad ? 1 : 0);
  m.y[i] = 1;  // reported
}

// The tail of an array whose length the block does not divide.
template <bool kBad>
__global__ void global_read_past_the_end(Memory m) {
  for (int i = static_cast<int>(threadIdx.x); i < (kBad ? 256 : Memory::kLength); i += 64) {
    const float v = m.x[i];  // reported
    m.y[i % 64] = 2 * v;     // reported
  }
}

template <bool kBad>
__global__ void global_read_before_the_start(Memory m) {
  const int t = static_cast<int>(threadIdx.x);
  const int i = kBad || t > 3 ? t - 3 : 0;
  m.y[t] = m.x[i];  // reported
}

// 254 floats are 63 vectors and a half.
template <bool kBad>
__global__ void vector_read_past_the_end(Memory m) {
  const int i = 4 * static_cast<int>(threadIdx.x);
  if (i + (kBad ? 0 : 3) >= Memory::kLength) return;
  const Vec<float, 4> v = load_vec<4>(m.x + i);  // reported
  m.y[threadIdx.x] = v[0] + v[1] + v[2] + v[3];  // reported
}

template <bool kBad>
__global__ void vector_write_past_the_end(Memory m) {
  const int i = 4 * static_cast<int>(threadIdx.x);
  if (i + (kBad ? 0 : 3) >= Memory::kLength) return;
  store_vec(m.y + i, Vec<float, 4>{1, 2, 3, 4});  // reported
}

// One piece of dynamic shared memory runs into the next: within the launch's bytes, so that a GPU says nothing.
template <bool kBad>
__global__ void from_one_piece_into_the_next(Memory m) {
  SIMT_DYN_SMEM(raw);
  Carver carver(raw);
  const int t = static_cast<int>(threadIdx.x);
  float* first = carver.take<float>(kBad ? 60 : 64);
  float* second = carver.take<float>(64);
  second[t] = m.x[t];
  first[t] = -m.x[t];  // reported
  m.y[t] = first[t] + second[t];
}

template <bool kBad>
__global__ void asynchronous_copy_past_the_end(Memory m) {
  SIMT_SHARED(float[256], s);
  const int t = static_cast<int>(threadIdx.x);
  const int left = 4 * (Memory::kLength - 4 * t);
  cp_async<16>(&s[4 * t], m.x + 4 * t, kBad || left > 16 ? 16 : left);  // reported
  cp_async_wait_all();
  m.y[t] = s[4 * t + 3];  // reported
}

const Case kCases[] = {
    {"shared_write_past_the_end",
     shared_write_past_the_end<false>,
     shared_write_past_the_end<true>,
     {.grid = 1, .block = 64}},
    {"shared_write_before_the_start",
     shared_write_before_the_start<false>,
     shared_write_before_the_start<true>,
     {.grid = 1, .block = 64}},
    {"shared_read_past_the_end",
     shared_read_past_the_end<false>,
     shared_read_past_the_end<true>,
     {.grid = 1, .block = 64}},
    {"shared_read_before_the_start",
     shared_read_before_the_start<false>,
     shared_read_before_the_start<true>,
     {.grid = 1, .block = 64}},
    {"global_write_past_the_end",
     global_write_past_the_end<false>,
     global_write_past_the_end<true>,
     {.grid = 1, .block = 64}},
    {"global_write_before_the_start",
     global_write_before_the_start<false>,
     global_write_before_the_start<true>,
     {.grid = 1, .block = 64}},
    {"global_read_past_the_end",
     global_read_past_the_end<false>,
     global_read_past_the_end<true>,
     {.grid = 1, .block = 64}},
    {"global_read_before_the_start",
     global_read_before_the_start<false>,
     global_read_before_the_start<true>,
     {.grid = 1, .block = 64}},
    {"vector_read_past_the_end",
     vector_read_past_the_end<false>,
     vector_read_past_the_end<true>,
     {.grid = 1, .block = 64}},
    {"vector_write_past_the_end",
     vector_write_past_the_end<false>,
     vector_write_past_the_end<true>,
     {.grid = 1, .block = 64}},
    {"from_one_piece_into_the_next",
     from_one_piece_into_the_next<false>,
     from_one_piece_into_the_next<true>,
     {.grid = 1, .block = 64, .smem = 512}},
    {"asynchronous_copy_past_the_end",
     asynchronous_copy_past_the_end<false>,
     asynchronous_copy_past_the_end<true>,
     {.grid = 1, .block = 64}},
};

}  // namespace

std::span<const Case> bounds_cases() { return kCases; }

}  // namespace simt::mustfail
