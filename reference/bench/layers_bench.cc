// The layers made of matrix products, and those around them: time, share of the best product, heap.
#include "reference/bench/bench.h"
#include "reference/testing/layer_passes.h"
#include "reference/testing/peak_memory.h"

namespace assay::reference::bench {
namespace {

double mebibytes(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// peak: the heap at its highest, without inputs and parameters. bound: inputs, outputs, saved tensors, parameters twice.
template <class T>
void add_layer(const testing::LayerCase& layer, const std::string& size, bool training) {
  const std::string name = layer.name + "/" + size + "/" + kScalarName<T> + (training ? "/forward+backward" : "/forward");
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    const std::size_t before = testing::allocated_bytes();
    const testing::LayerPass pass = layer.make();
    const auto& run = training ? pass.training : pass.forward;
    const std::size_t given = testing::allocated_bytes();
    testing::reset_most_allocated_bytes();
    testing::Kept kept = run();
    state.counters["peak_MiB"] = mebibytes(testing::most_allocated_bytes() - given);
    state.counters["bound_MiB"] = mebibytes((given - before) + (testing::allocated_bytes() - given));
    for (auto _ : state) {
      kept.reset();
      kept = run();
    }
    kept.reset();
    if (const double flops = training ? pass.training_flops : pass.forward_flops; flops > 0) {
      const double best = product_rate<T>();
      state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, benchmark::Counter::kIsIterationInvariantRate);
      state.counters["share"] = benchmark::Counter(flops / 1e9 / best, benchmark::Counter::kIsIterationInvariantRate);
    }
  })->Unit(benchmark::kMillisecond)->UseRealTime();
}

}  // namespace

template <class T>
void add_layers() {
  for (const testing::LayerSizes& sizes : {testing::nano_sizes(), testing::tiny_sizes()})
    for (const testing::LayerCase& layer : testing::layer_cases<T>(sizes))
      for (const bool training : {false, true}) add_layer<T>(layer, sizes.name, training);
}
template void add_layers<float>();
template void add_layers<double>();

}  // namespace assay::reference::bench
