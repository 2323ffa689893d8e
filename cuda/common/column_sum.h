// The second step of a weight gradient: partial sums over some of the rows each, summed to one row.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace assay::gpu {

// out[j] = rnd(sum_p partials[p, j])
//   partials [count, width] float    out [width] Out, overwritten (zeros if count = 0)
// Float sums in an order fixed by `count`. Asynchronous on `stream`.
template <class Out>  // float, __nv_bfloat16
void column_sum(const float* partials, std::int64_t count, std::int64_t width, Out* out, cudaStream_t stream);

}  // namespace assay::gpu
