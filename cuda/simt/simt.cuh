// The one include of kernel sources. nvcc compiles them for a GPU, g++ and clang++ for the CPU executor.
//
// Rules for kernels
//  1. No inline PTX, raw __shared__, <<<>>>, cooperative_groups, cub, wmma, cuda::barrier or CuTe outside cuda/simt.
//  2. No __activemask and no volatile tricks; memory passed between lanes needs __syncwarp.
//  3. No #if around logic; a loop that waits for memory calls simt::spin_yield().
//  4. Blocks wait for each other only within Launch.group, or for a block that drew a lower ticket.
//  5. All threads take the same pieces from a Carver. Kernel locals are trivially destructible.
//  6. Build with assay_simt's flags: vector casts need -fno-strict-aliasing.
#pragma once

#include "cuda/simt/async_copy.cuh"
#include "cuda/simt/atomic.cuh"
#include "cuda/simt/barrier.cuh"
#include "cuda/simt/convert.cuh"
#include "cuda/simt/launch.cuh"
#include "cuda/simt/match_reduce.cuh"
#include "cuda/simt/math.cuh"
#include "cuda/simt/matrix.cuh"
#include "cuda/simt/memory.cuh"
#include "cuda/simt/platform.cuh"
#include "cuda/simt/shared_memory.cuh"
#include "cuda/simt/warp.cuh"
