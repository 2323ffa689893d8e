// Small arrays that a call may hold in either type (dt, dt_bias, D): the type is a value, not a template argument,
// since one branch at each of a few loads costs less than twice the kernels.
#pragma once

#include <cuda_bf16.h>

namespace assay::gpu {

struct Scalars {
  const void* data = nullptr;
  bool is_bfloat16 = false;

  Scalars() = default;
  Scalars(const float* values) : data(values) {}
  Scalars(const __nv_bfloat16* values) : data(values), is_bfloat16(true) {}

  explicit operator bool() const { return data != nullptr; }
};

}  // namespace assay::gpu
