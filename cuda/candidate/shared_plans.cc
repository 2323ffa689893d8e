// Prints the dynamic shared memory that our launches ask for, as the register report (ci/register_report.py --dynamic)
// reads it: a kernel as the report spells it, bytes, and the layer, separated by tabs. It is the launch plans' own
// answer for each layer below that selects the kernel, the largest of them.
#include <array>
#include <cstdio>
#include <map>
#include <string>

#include "cuda/mamba2_decode_step/mamba2_decode_step.cuh"
#include "cuda/ssd_scan/backward_plan.h"
#include "cuda/ssd_scan/plan.h"

namespace assay::gpu {
namespace {

struct Layer {
  const char* name;
  int heads, head_dim, groups, state_size;
};
constexpr std::array kLayers{
    Layer{"nano-30b-a3b", 64, 64, 8, 128},       Layer{"super-120b-a12b", 128, 64, 8, 128},
    Layer{"nano, head_dim 80", 64, 80, 8, 128},  Layer{"nano, state_size 256", 64, 64, 8, 256},
    Layer{"nano, state_size 64", 64, 64, 8, 64}, Layer{"nano, state_size 32", 64, 64, 8, 32},
};
constexpr std::array<std::size_t, 3> kSharedLimits{227 << 10, 163 << 10,
                                                   99 << 10};  // of a block: sm_90 and sm_100, sm_80, sm_120

struct Largest {
  unsigned bytes = 0;
  const char* layer = "";
};
using Kernels = std::map<std::string, Largest>;

void note(Kernels& kernels, const std::string& kernel, unsigned bytes, const char* layer) {
  Largest& largest = kernels[kernel];
  if (bytes > largest.bytes) largest = {bytes, layer};
}

std::string type(std::size_t size) { return size == 2 ? "bf16" : "float"; }
std::string list(int a, int b) { return std::to_string(a) + ", " + std::to_string(b); }

void note_scans(Kernels& kernels, const Layer& layer, std::size_t size) {
  const std::int64_t inner = layer.heads * layer.head_dim, keys = layer.groups * layer.state_size;
  const SsdScanDims dims{1,     8192,        layer.heads, layer.head_dim, layer.groups, layer.state_size,
                         inner, layer.heads, keys,        keys,           inner};
  const auto forward = [&](const ssd_scan::Plan& plan, const char* normed) {
    if (plan.naive) return;
    note(kernels,
         "ssd_scan::ssd_scan_forward_chunked_kernel<" + type(size) + ", " + list(plan.chunk, plan.channels) + ", " +
             normed + ">",
         plan.shared_bytes, layer.name);
  };
  forward(ssd_scan::plan_forward(dims, size, true, Method::automatic), "false");
  for (const std::size_t limit : kSharedLimits)
    forward(ssd_scan::plan_normed(dims, size, true, Method::automatic, limit), "true");
  const ssd_scan::BackwardPlan plan = ssd_scan::plan_backward(
      dims, {.x = inner, .dt = layer.heads, .B = keys, .C = keys, .z = inner}, size, Method::automatic);
  if (plan.naive) return;
  const std::string sizes = type(size) + ", " + list(plan.chunk, plan.channels) + ", " +
                            std::to_string(layer.state_size <= 128 ? 128 : ssd_scan::kMaxStateSize) + ">";
  note(kernels, "ssd_scan::ssd_scan_backward_chunk_states_kernel<" + sizes, plan.states_shared_bytes, layer.name);
  note(kernels, "ssd_scan::ssd_scan_backward_chunked_kernel<" + sizes, plan.shared_bytes, layer.name);
}

void note_decode_step(Kernels& kernels, const Layer& layer, std::size_t size, std::size_t state_size) {
  using namespace mamba2_decode_step_plan;
  Mamba2DecodeStepDims dims{};
  dims.batch = 1;
  dims.heads = layer.heads;
  dims.head_dim = layer.head_dim;
  dims.groups = layer.groups;
  dims.state_size = layer.state_size;
  dims.taps = dims.conv_len = kTaps;
  dims.row_stride = dims.width();
  const std::string types = type(size) + ", " + type(state_size);
  const Plan fast = plan(dims, size, state_size, true, Method::automatic);
  if (!fast.naive) {
    note(kernels, "mamba2_decode_step_kernel<" + types + ", " + list(fast.vectors, rows_per_lane(fast.vectors)) + ">",
         fast.shared_bytes, layer.name);
  }
  note(kernels, "mamba2_decode_step_naive_kernel<" + types + ">",
       plan(dims, size, state_size, true, Method::naive).shared_bytes, layer.name);
}

}  // namespace
}  // namespace assay::gpu

int main() {
  using namespace assay::gpu;
  Kernels kernels;
  for (const Layer& layer : kLayers)
    for (const std::size_t size : {2, 4}) {
      note_scans(kernels, layer, size);
      for (const std::size_t state_size : {2, 4}) note_decode_step(kernels, layer, size, state_size);
    }
  for (const auto& [kernel, largest] : kernels)
    std::printf("%s\t%u\t%s\n", kernel.c_str(), largest.bytes, largest.layer);
}
