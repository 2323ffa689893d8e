// One source, two compilers: what nvcc provides and g++/clang++ lack, and the macros both understand.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__CUDACC__)
#define SIMT_HOST 0
#else
#define SIMT_HOST 1
#endif

#if SIMT_HOST
#include "cuda/simt/exec/thread.h"

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __shared__  // CUDA's headers define it to nothing: every thread would silently have its own copy
#define __shared__ SIMT_ERROR_use_SIMT_SHARED_instead
#define threadIdx (::simt::self().index)
#define blockIdx (::simt::self().shape->index)
#define blockDim (::simt::self().shape->dim)
#define gridDim (::simt::self().shape->grid)

#define SIMT_DEV inline
#define SIMT_UNROLL
// The line of the kernel that calls a wrapper, as its last parameter (nothing on a GPU).
#define SIMT_SITE ::simt::Site site = ::simt::Site::here()
#define SIMT_AND_SITE , SIMT_SITE
#else
#define SIMT_DEV __device__ __forceinline__
#define SIMT_UNROLL _Pragma("unroll")
#define SIMT_SITE
#define SIMT_AND_SITE
#endif

#if SIMT_HOST
namespace simt {
// The host twins of CUDA's functions accept the types of CUDA's overloads and no others: what compiles here compiles
// with nvcc.
template <class T, class... Types>
concept OneOf = (std::is_same_v<T, Types> || ...);
}  // namespace simt
#endif
