#include "cuda/candidate/flavour.h"

namespace assay::gpu {

const char* const kCandidateName = "assay 0.1, plain versions";
const Method kMethod = Method::naive;
void amend_contract(const Call&, assay_contract& contract) { contract.accumulate = ASSAY_ACCUMULATE_FP64; }

}  // namespace assay::gpu
