#include "harness/report/roofline.h"

namespace assay::harness {
namespace {

double count(const Counts& counts, const std::string& name) {
  const auto it = counts.find(name);
  return it == counts.end() ? 0.0 : static_cast<double>(it->second);
}

}  // namespace

const Gpu& h100_sxm() {
  // NVIDIA H100 Tensor Core GPU, data sheet: 3.35 TB/s; TFLOP/s dense: float32 66.9, tf32 494.7, bf16 and f16 989.4,
  // fp8 and int8 1,978.9; so 132 multiprocessors of 128 lanes run at 1.98 GHz. Programming guide, throughput of
  // instructions, compute capability 9.0: 16 special functions a clock; shared memory 32 banks of 4 bytes a clock;
  // tuning guide: L2 reads, 64 bytes a clock and multiprocessor.
  static constexpr Gpu gpu = {
      .name = "H100 SXM",
      .clock = 1.98e9,
      .multiprocessors = 132,
      .bytes = 3.35e12,
      .scalar_operations = 66.9e12,
      .special_per_clock = 16,
      .block_bytes_per_clock = 64,
      .tensor_operations = {{{"bf16", 989.4e12},
                             {"f16", 989.4e12},
                             {"tf32", 494.7e12},
                             {"e4m3", 1978.9e12},
                             {"e5m2", 1978.9e12},
                             {"s8", 1978.9e12},
                             {"u8", 1978.9e12}}},
  };
  return gpu;
}

Roofline roofline(const Gpu& gpu, const Counts& counts) {
  Roofline result;
  const auto needs = [&](double seconds, std::string_view resource) {
    if (seconds > result.seconds) result = {seconds, resource};
  };
  const double clocks = gpu.clock * gpu.multiprocessors;
  needs((count(counts, "global_read.bytes") + count(counts, "global_write.bytes")) / gpu.bytes, "memory");
  double tensor = 0;
  for (const auto& [type, rate] : gpu.tensor_operations)
    tensor += count(counts, "tensor_operations." + std::string(type)) / rate;
  needs(tensor, "tensor cores");
  needs(count(counts, "float_operations") / gpu.scalar_operations, "arithmetic");
  needs(count(counts, "special_functions") / (gpu.special_per_clock * clocks), "special functions");
  needs((count(counts, "shared_read.wavefronts") + count(counts, "shared_write.wavefronts")) / clocks, "shared memory");
  needs(count(counts, "longest_block_bytes") / (gpu.block_bytes_per_clock * gpu.clock), "one block");
  needs(count(counts, "longest_thread_steps") / gpu.clock, "one thread");
  return result;
}

}  // namespace assay::harness
