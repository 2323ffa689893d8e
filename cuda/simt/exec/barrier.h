// Block barriers, for the scheduler.
#pragma once

#include "cuda/simt/exec/worker.h"

namespace simt {

// A thread of `block` has exited: barriers that wait for all threads may now be complete.
void thread_left_barriers(Worker& worker, Block& block);

}  // namespace simt
