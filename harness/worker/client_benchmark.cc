// Requests per second through a worker, and bytes per second of large ones. The candidate's own work is nearly nothing.
#include <benchmark/benchmark.h>

#include "harness/worker/client.h"

namespace assay::harness {
namespace {

Call rms_norm(std::int64_t rows, std::int64_t width) {
  Call call{.op = "rms_norm.forward",
            .attributes = {{"eps", 1e-5}},
            .tensors = {make_tensor("input.hidden_states", Role::in, DType::float32, {rows, width}),
                        make_tensor("param.weight", Role::in, DType::float32, {width}),
                        make_tensor("output.hidden_states", Role::out, DType::float32, {rows, width})}};
  for (std::int64_t i = 0; i < width; ++i) call.tensors[1].set(i, 1);
  return call;
}

void run(benchmark::State& state) {
  Worker worker({.worker = ASSAY_TEST_WORKER, .candidate = ASSAY_TEST_HOSTILE "/base.so", .environment = {}});
  const Call call = rms_norm(state.range(0), state.range(1));
  double inside = 0;
  for (auto _ : state) {
    const Reply reply = worker.run(call);
    if (reply.outcome != Outcome::completed) state.SkipWithError(reply.message.c_str());
    inside += reply.seconds;
  }
  state.SetBytesProcessed(state.iterations() * (2 * state.range(0) + 1) * state.range(1) * 4);
  state.counters["inside_us"] = benchmark::Counter(inside * 1e6, benchmark::Counter::kAvgIterations);
}
BENCHMARK(run)
    ->Args({1, 8})
    ->Args({7, 96})
    ->Args({64, 1024})
    ->Args({1024, 4096})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

void restart(benchmark::State& state) {
  for (auto _ : state) {
    Worker worker({.worker = ASSAY_TEST_WORKER, .candidate = ASSAY_TEST_HOSTILE "/base.so", .environment = {}});
    benchmark::DoNotOptimize(worker.info());
  }
}
BENCHMARK(restart)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace assay::harness
