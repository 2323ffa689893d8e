// What the benchmarks of the layers share: the sizes they run at, and a product to measure them against.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "reference/gemm.h"
#include "reference/parallel.h"
#include "reference/testing/random.h"

namespace assay::reference::bench {

// The letters of the specification, at S tokens of one sequence.
struct Sizes {
  const char* name;
  Index S, D, H, P, G, N, Q, K;
  Index I() const { return H * P; }
  Index conv_channels() const { return I() + 2 * G * N; }
  Index in_proj_rows() const { return I() + conv_channels() + H; }
};
constexpr Sizes kNano = {.name = "nano", .S = 512, .D = 2688, .H = 64, .P = 64, .G = 8, .N = 128, .Q = 128, .K = 4};
constexpr Sizes kTiny = {.name = "tiny", .S = 512, .D = 64, .H = 8, .P = 16, .G = 2, .N = 16, .Q = 16, .K = 4};

template <class T>
constexpr const char* kScalarName = sizeof(T) == 8 ? "float64" : "float32";

// GFLOP/s of a square product of 2048, the best of three: what the machine gives.
template <class T>
double product_rate() {
  static const double rate = [] {
    constexpr Index n = 2048;
    testing::Random random(1);
    const Tensor<T> a = random.tensor<T>({n, n}), b = random.tensor<T>({n, n});
    Tensor<T> c({n, n});
    double best = 0;
    for (int i = 0; i < 4; ++i) {
      const auto start = std::chrono::steady_clock::now();
      gemm(view(a, n), view(b, n), view(c, n));
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      best = std::max(best, 2.0 * n * n * n / seconds.count() / 1e9);
    }
    return best;
  }();
  return rate;
}

// Registers "layer/size/scalar/what". `flops` counts the matrix products of one iteration; 0 for layers without.
template <class T, class Body>
void add(const std::string& layer, const Sizes& sizes, const char* what, double flops, Body body) {
  const std::string name = layer + "/" + sizes.name + "/" + kScalarName<T> + "/" + what;
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    for (auto _ : state) body();
    if (flops == 0) return;
    const double best = product_rate<T>();
    state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, benchmark::Counter::kIsIterationInvariantRate);
    state.counters["share"] = benchmark::Counter(flops / 1e9 / best, benchmark::Counter::kIsIterationInvariantRate);
  })->Unit(benchmark::kMillisecond)->UseRealTime();
}

// Registers the layers of testing/layer_passes.h at both sizes.
template <class T>
void add_layers();

}  // namespace assay::reference::bench
