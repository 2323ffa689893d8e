// Norms, convolution and scan.
#include <malloc.h>

#include <limits>
#include <memory>

#include "reference/bench/bench.h"
#include "reference/causal_conv1d.h"
#include "reference/gated_rms_norm.h"
#include "reference/rms_norm.h"
#include "reference/ssd_scan_recurrence.h"

namespace assay::reference::bench {
namespace {

using testing::Random;

template <class T>
void norms(const Sizes& z) {
  struct Data {
    Tensor<T> x, gate, weight, d_y;
  };
  const auto make = [&](Index width) {
    Random random(1);
    return std::make_shared<Data>(Data{random.tensor<T>({z.S, width}), random.tensor<T>({z.S, width}), random.tensor<T>({width}),
                                       random.tensor<T>({z.S, width})});
  };
  const Numerics<T> num;
  const auto block = make(z.D), mamba = make(z.I());
  const Index group = z.I() / z.G;
  add<T>("rms_norm", z, "forward", 0, [=] { benchmark::DoNotOptimize(rms_norm_forward(num, block->x, block->weight, nullptr, T(1e-5))); });
  add<T>("rms_norm", z, "forward+backward", 0, [=] {
    const auto out = rms_norm_forward(num, block->x, block->weight, nullptr, T(1e-5));
    benchmark::DoNotOptimize(rms_norm_backward(num, block->x, block->weight, out.rstd, block->d_y, nullptr));
  });
  add<T>("gated_rms_norm", z, "forward", 0, [=] {
    benchmark::DoNotOptimize(gated_rms_norm_forward(num, mamba->x, &mamba->gate, mamba->weight, group, T(1e-5)));
  });
  add<T>("gated_rms_norm", z, "forward+backward", 0, [=] {
    const auto out = gated_rms_norm_forward(num, mamba->x, &mamba->gate, mamba->weight, group, T(1e-5));
    benchmark::DoNotOptimize(gated_rms_norm_backward(num, mamba->x, &mamba->gate, mamba->weight, out.rstd, mamba->d_y, group));
  });
}

template <class T>
void convolution(const Sizes& z) {
  struct Data {
    Tensor<T> x, weight, bias, d_y;
    CausalConv1dInputs<T> in() const { return {.x = x, .weight = weight, .bias = &bias}; }
  };
  Random random(2);
  const Index C = z.conv_channels();
  const auto data = std::make_shared<Data>(Data{random.tensor<T>({1, z.S, C}), random.tensor<T>({C, z.K}), random.tensor<T>({C}),
                                                random.tensor<T>({1, z.S, C})});
  const Numerics<T> num;
  add<T>("causal_conv1d", z, "forward", 0, [=] { benchmark::DoNotOptimize(causal_conv1d_forward(num, data->in())); });
  add<T>("causal_conv1d", z, "forward+backward", 0, [=] {
    benchmark::DoNotOptimize(causal_conv1d_forward(num, data->in()));
    benchmark::DoNotOptimize(causal_conv1d_backward(num, data->in(), data->d_y));
  });
}

// Products of the chunked scan, of one token: C B^T by group; G x, C H and the state by head.
double scan_flops(const Sizes& z) {
  return static_cast<double>(z.S * (2 * z.Q * z.N * z.G + z.H * (2 * z.Q * z.P + 4 * z.P * z.N)));
}

template <class T>
void scan(const Sizes& z) {
  struct Data {
    Tensor<T> x, dt, A, B, C, D, d_y;
    Index chunk_size;
    SsdScanInputs<T> in() const { return {.x = x, .dt = dt, .A = A, .B = B, .C = C, .D = &D, .chunk_size = chunk_size, .dt_softplus = false}; }
  };
  Random random(3);
  const auto data = std::make_shared<Data>(Data{
      random.tensor<T>({1, z.S, z.H, z.P}), random.tensor<T>({1, z.S, z.H}, 0, 0.1), random.tensor<T>({z.H}, -5, -1),
      random.tensor<T>({1, z.S, z.G, z.N}), random.tensor<T>({1, z.S, z.G, z.N}), random.tensor<T>({z.H}),
      random.tensor<T>({1, z.S, z.H, z.P}), z.Q});
  const Numerics<T> num;
  add<T>("ssd_scan", z, "forward", scan_flops(z), [=] { benchmark::DoNotOptimize(ssd_scan_forward(num, data->in())); });
  add<T>("ssd_scan", z, "forward+backward", 0, [=] {
    const auto out = ssd_scan_forward(num, data->in());
    benchmark::DoNotOptimize(ssd_scan_backward(num, data->in(), out, data->d_y));
  });
  add<T>("ssd_scan_recurrence", z, "forward", 0, [=] { benchmark::DoNotOptimize(ssd_scan_recurrence_forward(num, data->in())); });
  add<T>("ssd_scan_recurrence", z, "forward+backward", 0, [=] {
    benchmark::DoNotOptimize(ssd_scan_recurrence_forward(num, data->in()));
    benchmark::DoNotOptimize(ssd_scan_recurrence_backward(num, data->in(), data->d_y));
  });
}

template <class T>
void all(const Sizes& sizes) {
  norms<T>(sizes);
  convolution<T>(sizes);
  scan<T>(sizes);
}

}  // namespace
}  // namespace assay::reference::bench

int main(int argc, char** argv) {
  using namespace assay::reference;
  // The heap keeps what it frees: otherwise touching fresh pages of every output is a good part of the time.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  for (const bench::Sizes& sizes : {bench::kNano, bench::kTiny}) {
    bench::all<double>(sizes);
    bench::all<float>(sizes);
  }
  bench::add_layers<double>();
  bench::add_layers<float>();
  benchmark::AddCustomContext("threads", std::to_string(threads()));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
