// Correct kernels must run without a report whatever their sizes and whatever the schedule:
//   simt_soak [--runs N] [--seed S] [--unguarded]
// A run draws sizes, data, schedule and number of workers, and runs gated RMSNorm, the cp.async matrix product, the
// look-back scan and the transpose. Run i of seed S is run 0 of seed S + i. A report is a sanitizer's, the executor's,
// or a wrong result. --unguarded leaves the transpose's barrier out, so that there is something to report.
// Prints "R reports in N runs"; exit code 1 if R > 0. Under ASan and MSan the first report ends the program.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "cuda/gated_rms_norm/gated_rms_norm.h"
#include "cuda/simt/executor.h"
#include "cuda/simt/test_gemm.cuh"
#include "cuda/simt/test_look_back.cuh"
#include "cuda/simt/test_support.h"
#include "cuda/simt/test_transpose.cuh"

namespace {

int reports = 0;

#if defined(SIMT_TSAN)
}  // namespace
extern "C" __attribute__((visibility("default"))) void __tsan_on_report(void*) { ++reports; }
namespace {
#endif

using simt::testing::Buffer;

// One run: where its numbers come from, and what is said about it.
class Run {
 public:
  explicit Run(std::uint64_t seed) : seed_(seed), random_(seed) {}

  int draw(int low, int high) { return low + static_cast<int>(random_() % static_cast<std::uint64_t>(high - low + 1)); }
  bool coin() { return draw(0, 1) == 1; }
  std::vector<float> values(std::size_t count, float unit, int limit) {  // multiples of `unit`
    std::vector<float> result(count);
    for (float& value : result) value = unit * static_cast<float>(draw(-limit, limit));
    return result;
  }
  std::uint64_t seed() const { return seed_; }

  void expect(bool condition, const char* kernel) {
    if (condition || wrong_) return;  // one wrong element is enough said
    wrong_ = true;
    report(kernel, "wrong result");
  }
  void report(const char* kernel, const char* what) {
    ++reports;
    std::printf("%s, seed %llu, %s, %d worker(s): %s\n", kernel, static_cast<unsigned long long>(seed_),
                simt::current_schedule().name, workers_, what);
  }
  void set_up_executor() {
    workers_ = draw(1, 2);
    simt::set_workers(workers_);
    const simt::Schedule drawn{"drawn schedule", static_cast<simt::Order>(draw(0, 3)),
                               static_cast<simt::Landing>(draw(0, 2)), static_cast<simt::Arithmetic>(draw(0, 1))};
    simt::set_schedule(drawn, random_());
  }

 private:
  std::uint64_t seed_;
  std::mt19937_64 random_;
  int workers_ = 0;
  bool wrong_ = false;
};

std::size_t area(std::int64_t rows, std::int64_t columns) { return static_cast<std::size_t>(rows * columns); }

void gated_norm(Run& run) {
  const int groups = run.draw(1, 4), group_size = run.draw(1, 300), width = groups * group_size;
  const assay::gpu::GatedRmsNormDims dims{.rows = run.draw(1, 24),
                                          .width = width,
                                          .group_size = group_size,
                                          .row_stride = width + run.draw(0, 8),
                                          .gate_stride = width + run.draw(0, 8)};
  const auto x = run.values(area(dims.rows, dims.row_stride), 0x1p-6f, 200);
  const auto gate = run.values(area(dims.rows, dims.gate_stride), 0x1p-6f, 200);
  const auto weight = run.values(static_cast<std::size_t>(width), 0x1p-6f, 100);
  const Buffer<float> device_x(x), device_gate(gate), device_weight(weight), out(area(dims.rows, width)),
      rstd(area(dims.rows, groups));
  const bool gated = run.coin();
  const float* gate_values = device_gate;
  constexpr float kEps = 1e-5f;
  assay::gpu::gated_rms_norm_forward(dims,
                                     assay::gpu::GatedRmsNormForward<float>{.hidden_states = device_x,
                                                                            .gate = gated ? gate_values : nullptr,
                                                                            .weight = device_weight,
                                                                            .eps = kEps,
                                                                            .out = out,
                                                                            .rstd = rstd},
                                     nullptr);
  const auto result = out.host();
  // A sum of n squares errs by n units of 2^-24, its root by half; 32 units for silu and everything else.
  const double limit = (group_size / 2.0 + 32) * 0x1p-24;
  for (std::int64_t row = 0; row < dims.rows; ++row) {
    for (int begin = 0; begin < width; begin += group_size) {
      const auto v = [&](int i) {
        const double z = gate[area(row, dims.gate_stride) + static_cast<std::size_t>(i)];
        return x[area(row, dims.row_stride) + static_cast<std::size_t>(i)] * (gated ? z / (1 + std::exp(-z)) : 1.0);
      };
      double squares = 0;
      for (int i = begin; i < begin + group_size; ++i) squares += v(i) * v(i);
      for (int i = begin; i < begin + group_size; ++i) {
        const double want = weight[static_cast<std::size_t>(i)] * v(i) / std::sqrt(squares / group_size + kEps);
        const double got = result[area(row, width) + static_cast<std::size_t>(i)];
        run.expect(std::abs(got - want) <= limit * std::abs(want), "gated_rms_norm");
      }
    }
  }
}

// Whole numbers whose sums stay below 2^24: exact in either arithmetic.
void product(Run& run) {
  const int m = run.draw(1, 100), n = run.draw(1, 100), k = 8 * run.draw(1, 24);
  const auto a = run.values(area(m, k), 1, 8), b = run.values(area(n, k), 1, 8);
  const auto to_bf16 = [](const std::vector<float>& values) {
    std::vector<__nv_bfloat16> result(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) result[i] = __float2bfloat16(values[i]);
    return result;
  };
  const Buffer<__nv_bfloat16> device_a(to_bf16(a)), device_b(to_bf16(b));
  const Buffer<float> device_c(area(m, n));
  simt::testing::gemm(device_a, device_b, device_c, m, n, k);
  const auto c = device_c.host();
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      float sum = 0;
      for (int l = 0; l < k; ++l) {
        sum += a[area(i, k) + static_cast<std::size_t>(l)] * b[area(j, k) + static_cast<std::size_t>(l)];
      }
      run.expect(c[area(i, n) + static_cast<std::size_t>(j)] == sum, "gemm");
    }
  }
}

void scan(Run& run) {
  const int tiles = run.draw(1, 40);
  std::vector<int> x(area(tiles, 32));
  for (int& value : x) value = run.draw(-1000, 1000);
  const Buffer<int> device_x(x), device_y(x.size()), ticket(std::vector<int>{0});
  const Buffer<unsigned long long> status(std::vector<unsigned long long>(static_cast<std::size_t>(tiles), 0));
  simt::launch(simt::testing::look_back_kernel, {.grid = static_cast<unsigned>(tiles), .block = 32}, device_x, device_y,
               ticket, status);
  const auto y = device_y.host();
  int sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum += x[i];
    run.expect(y[i] == sum, "look_back");
  }
}

template <bool kGuarded>
void transpose(Run& run) {
  const int rows = run.draw(1, 100), columns = run.draw(1, 100);
  const auto x = run.values(area(rows, columns), 1, 1000);
  const Buffer<float> device_x(x), device_y(x.size());
  simt::testing::launch_transpose<kGuarded>(device_x, device_y, rows, columns, static_cast<unsigned>(run.draw(2, 8)));
  const auto y = device_y.host();
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      run.expect(y[area(j, rows) + static_cast<std::size_t>(i)] == x[area(i, columns) + static_cast<std::size_t>(j)],
                 "transpose");
    }
  }
}

void run_all(std::uint64_t seed, bool guarded) {
  const struct {
    const char* name;
    void (*kernel)(Run&);
  } kernels[] = {{"gated_rms_norm", gated_norm},
                 {"gemm", product},
                 {"look_back", scan},
                 {"transpose", guarded ? transpose<true> : transpose<false>}};
  Run run(seed);
  for (const auto& [name, kernel] : kernels) {
    run.set_up_executor();
    try {
      kernel(run);
    } catch (const simt::Error& error) {
      run.report(name, error.what());
    }
  }
}

int usage() {
  std::fputs("usage: simt_soak [--runs N] [--seed S] [--unguarded]\n", stderr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  unsigned long long runs = 20, seed = 1;
  bool guarded = true;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--unguarded") == 0) {
      guarded = false;
      continue;
    }
    const bool is_runs = std::strcmp(argv[i], "--runs") == 0;
    if ((!is_runs && std::strcmp(argv[i], "--seed") != 0) || ++i == argc) return usage();
    char* end = nullptr;
    (is_runs ? runs : seed) = std::strtoull(argv[i], &end, 10);
    if (end == argv[i] || *end != '\0') return usage();
  }
  for (unsigned long long run = 0; run < runs; ++run) run_all(seed + run, guarded);
  std::printf("%d reports in %llu runs (seed %llu)\n", reports, runs, seed);
  return reports == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
