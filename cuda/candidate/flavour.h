// Which kernels this library is made of. Each library links one flavour_*.cc.
#pragma once

#include "cuda/common/method.h"

namespace assay::gpu {

extern const char* const kCandidateName;  // with its version
extern const Method kMethod;

}  // namespace assay::gpu
