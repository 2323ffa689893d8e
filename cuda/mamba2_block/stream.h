// Private to the family: the residual stream.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace assay::gpu::mamba2_block {

// out = rnd_R(stream + mixed), the sum in float.   [size]
template <class T, class R>
void add_to_stream(const T* stream, const T* mixed, std::int64_t size, R* out, cudaStream_t cuda_stream);

// out = rnd(in)   [size]
void round_gradient(const float* in, std::int64_t size, __nv_bfloat16* out, cudaStream_t cuda_stream);

}  // namespace assay::gpu::mamba2_block
