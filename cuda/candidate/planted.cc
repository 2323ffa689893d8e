// Of a library with a planted break: which one.
#include "cuda/common/planted.h"

namespace assay::gpu {

const Break kPlanted = Break::ASSAY_BREAK;

}  // namespace assay::gpu
