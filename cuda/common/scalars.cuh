// Elements of Scalars on the device.
#pragma once

#include "cuda/common/scalars.h"
#include "cuda/common/vec.cuh"

namespace assay::gpu {

SIMT_DEV float scalar_at(const Scalars& scalars, std::int64_t i) {
  return scalars.is_bfloat16 ? to_float(__ldg(static_cast<const __nv_bfloat16*>(scalars.data) + i))
                             : __ldg(static_cast<const float*>(scalars.data) + i);
}

}  // namespace assay::gpu
