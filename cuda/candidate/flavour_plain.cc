#include "cuda/candidate/flavour.h"

namespace assay::gpu {

const char* const kCandidateName = "assay 0.1, plain versions";
const Method kMethod = Method::naive;

}  // namespace assay::gpu
