#include "harness/report/roofline.h"

#include <fmt/format.h>

#include <algorithm>

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
  const auto needs = [&](double amount, double a_second, std::string_view unit, std::string_view resource) {
    if (amount <= 0) return;
    result.needs.push_back({resource, amount, a_second, unit});
    const double seconds = result.needs.back().seconds();
    if (seconds > result.seconds) result.seconds = seconds, result.limiter = resource;
  };
  const double clocks = gpu.clock * gpu.multiprocessors;
  needs(count(counts, "global_read.bytes") + count(counts, "global_write.bytes"), gpu.bytes, "bytes", "memory");
  // One unit multiplies all types: as many of the fastest counted one's operations as take the same time.
  double tensor = 0, fastest = 0;
  for (const auto& [type, rate] : gpu.tensor_operations)
    if (const double n = count(counts, "tensor_operations." + std::string(type)); n > 0)
      tensor += n / rate, fastest = std::max(fastest, rate);
  needs(tensor * fastest, fastest, "operations", "tensor cores");
  needs(count(counts, "float_operations"), gpu.scalar_operations, "operations", "arithmetic");
  needs(count(counts, "special_functions"), gpu.special_per_clock * clocks, "calls", "special functions");
  needs(count(counts, "shared_read.wavefronts") + count(counts, "shared_write.wavefronts"), clocks, "wavefronts",
        "shared memory");
  needs(count(counts, "longest_block_bytes"), gpu.block_bytes_per_clock * gpu.clock, "bytes", "one block");
  needs(count(counts, "longest_thread_steps"), gpu.clock, "steps", "one thread");
  return result;
}

std::string arithmetic_text(const Gpu& gpu, const Counts& counts) {
  const Roofline r = roofline(gpu, counts);
  std::string text = fmt::format("{} predicted, not measured: {:.2f} us, the most of\n", gpu.name, 1e6 * r.seconds);
  for (const Roofline::Need& need : r.needs)
    text += fmt::format("  {:<18} {:>16.0f} {:<10} / {:.4g} a second = {:.2f} us\n", need.resource, need.amount,
                        need.unit, need.a_second, 1e6 * need.seconds());
  const double longest = count(counts, "longest_block_bytes"), balanced = count(counts, "balanced_block_bytes");
  if (balanced > 0)
    text +=
        fmt::format("Longest chain of a block {:.0f} bytes, with equal shares {:.0f}: {:.2f} times; {:.0f} blocks\n",
                    longest, balanced, longest / balanced, count(counts, "blocks"));
  return text;
}

}  // namespace assay::harness
