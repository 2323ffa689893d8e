// @OP@. The same source is compiled by nvcc for a GPU and by g++ for Assay's CPU executor; the rules that make this
// possible open cuda/simt/simt.cuh.
#include "kernel.h"

#include "cuda/simt/simt.cuh"

namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) kernel(Problem p) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < p.elements) p.output[i] = p.input[i];  // your equation here
}

}  // namespace

void launch(const Problem& p, cudaStream_t stream) {
  if (p.elements == 0) return;
  const auto blocks = static_cast<unsigned>((p.elements + kThreads - 1) / kThreads);
  simt::launch(kernel, {.grid = blocks, .block = kThreads, .stream = stream}, p);
}
