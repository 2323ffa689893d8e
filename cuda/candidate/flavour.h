// Which kernels this library is made of. Each library links one flavour_*.cc.
#pragma once

#include "cuda/candidate/call.h"
#include "cuda/common/method.h"

namespace assay::gpu {

extern const char* const kCandidateName;  // with its version
extern const Method kMethod;              // of our own operations

// Where a call is not as candidate.cc says by default: IEEE products, float32 sums, accurate functions, deterministic.
void amend_contract(const Call& call, assay_contract& contract);

}  // namespace assay::gpu
