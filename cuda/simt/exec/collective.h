// Warp collectives, for the scheduler.
#pragma once

#include "cuda/simt/exec/worker.h"

namespace simt {

// A lane has exited: collectives that wait for it go on without it.
void lane_exited(Worker& worker, Warp& warp, unsigned lane);

}  // namespace simt
