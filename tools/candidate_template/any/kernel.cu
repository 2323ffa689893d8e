// @OP@. The same source is compiled by nvcc for a GPU and by g++ for Assay's CPU executor; the rules that make this
// possible open cuda/simt/simt.cuh.
#include "kernel.h"

#include "cuda/simt/simt.cuh"

namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) kernel(Problem p) {
  const std::int64_t row = blockIdx.x;
  for (std::int64_t i = threadIdx.x; i < p.width; i += kThreads) {
    p.output[row * p.width + i] = p.input[row * p.row_stride + i];  // the equation goes here
  }
}

}  // namespace

void launch(const Problem& p, cudaStream_t stream) {
  if (p.rows == 0) return;
  simt::launch(kernel, {.grid = static_cast<unsigned>(p.rows), .block = kThreads, .stream = stream}, p);
}
