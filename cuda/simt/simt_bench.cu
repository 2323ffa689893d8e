// What the executor's operations cost on this machine. Items are what the name counts: threads at a barrier, lanes of a
// shuffle, warps of an mma, launches, bytes of shared memory; the reported time is for one of them.
//   simt_bench --benchmark_counters_tabular=true
#include <benchmark/benchmark.h>

#include <vector>

#include "cuda/simt/test_gemm.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

__global__ void barrier_kernel(int n) {
  for (int i = 0; i < n; ++i) __syncthreads();
}
__global__ void warp_barrier_kernel(int n) {
  for (int i = 0; i < n; ++i) __syncwarp();
}
__global__ void shuffle_kernel(int n, float* out) {
  float v = static_cast<float>(threadIdx.x);
  for (int i = 0; i < n; ++i) v += __shfl_xor_sync(~0u, v, 1 << (i % 5));
  out[threadIdx.x] = v;
}
__global__ void mma_kernel(int n, float* out) {
  const std::uint32_t a[4] = {1, 2, 3, 4}, b[2] = {1, 2};
  float c[4] = {};
  for (int i = 0; i < n; ++i) mma_bf16_16816(c, a, b, c);
  out[threadIdx.x] = c[0];
}
__global__ void fma_kernel(int n, float* out) {
  float v = static_cast<float>(threadIdx.x);
  for (int i = 0; i < n; ++i) v = fmaf(v, 1.0001f, 0.5f);
  out[threadIdx.x] = v;
}
__global__ void empty_kernel() {}

// Calls work() under schedule `range(1)` on `range(0)` workers; each call does `items` of the thing measured.
template <class Work>
void measure(benchmark::State& state, double items, Work work) {
  set_workers(static_cast<int>(state.range(0)));
  set_schedule(static_cast<std::size_t>(state.range(1)), 1);
  work();  // makes the fibers
  for (auto _ : state) work();
  state.counters["per_item"] =
      benchmark::Counter(items, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  set_workers(0);
  set_schedule(0, 1);
}

void barrier(benchmark::State& state) {
  const auto threads = static_cast<unsigned>(state.range(2));
  const int rounds = threads > 128 ? 200 : 1000;
  measure(state, 2.0 * threads * rounds, [&] { launch(barrier_kernel, {.grid = 2, .block = threads}, rounds); });
}
void warp_barrier(benchmark::State& state) {
  measure(state, 2 * 128 * 1000, [] { launch(warp_barrier_kernel, {.grid = 2, .block = 128}, 1000); });
}
void shuffle_lane(benchmark::State& state) {
  const Buffer<float> out(128);
  measure(state, 2 * 128 * 1000, [&] { launch(shuffle_kernel, {.grid = 2, .block = 128}, 1000, out); });
}
void mma_warp(benchmark::State& state) {
  const Buffer<float> out(128);
  measure(state, 2 * 4 * 500, [&] { launch(mma_kernel, {.grid = 2, .block = 128}, 500, out); });
}
void thread_start_and_end(benchmark::State& state) {
  measure(state, 2000 * 128, [] { launch(empty_kernel, {.grid = 2000, .block = 128}); });
}
void launch_of_one_warp(benchmark::State& state) {
  measure(state, 1, [] { launch(empty_kernel, {.grid = 1, .block = 32}); });
}
void fma_of_one_thread(benchmark::State& state) {
  const Buffer<float> out(256);
  measure(state, 64 * 256 * 100, [&] { launch(fma_kernel, {.grid = 64, .block = 256}, 100, out); });
}
void gemm_cube(benchmark::State& state) {
  const int n = static_cast<int>(state.range(2));
  const std::vector<__nv_bfloat16> ones(static_cast<std::size_t>(n) * n, __float2bfloat16(1));
  const Buffer<__nv_bfloat16> a(ones), b(ones);
  const Buffer<float> c(ones.size());
  measure(state, 1, [&] { gemm(a, b, c, n, n, n); });
}

// Arguments: workers, schedule, size.
void schedules_and_workers(benchmark::internal::Benchmark* benchmark) {
  for (const int schedule : {0, 1, 2, 3}) benchmark->Args({1, schedule});
  benchmark->Args({2, 0});
}
BENCHMARK(barrier)->ArgsProduct({{1, 2}, {0}, {128, 1024}})->Args({1, 1, 1024})->UseRealTime();
BENCHMARK(warp_barrier)->Apply(schedules_and_workers)->UseRealTime();
BENCHMARK(shuffle_lane)->Apply(schedules_and_workers)->UseRealTime();
BENCHMARK(mma_warp)->Apply(schedules_and_workers)->UseRealTime();
BENCHMARK(thread_start_and_end)->Apply(schedules_and_workers)->UseRealTime();
BENCHMARK(launch_of_one_warp)->Args({1, 0})->UseRealTime();
BENCHMARK(fma_of_one_thread)->ArgsProduct({{1, 2}, {0}})->UseRealTime();
BENCHMARK(gemm_cube)->ArgsProduct({{1, 2}, {0}, {256, 512}})->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace simt::testing

BENCHMARK_MAIN();
