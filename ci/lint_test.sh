#!/usr/bin/env bash
# The two lints find what they are for: each planted line must be reported, and a clean tree must pass.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
wrong=0

# expect STATUS SCRIPT FILE LINE: SCRIPT ends with STATUS on a tree that has LINE in FILE.
expect() {
  local want=$1 script=$2 file=$3 line=$4 got=0
  rm -rf "${tree:?}"/*
  mkdir -p "$tree/$(dirname "$file")" "$tree/cuda"
  printf '%s\n' "$line" >"$tree/$file"
  "$here/$script" "$tree" >/dev/null || got=$?
  if ((got != want)); then
    printf '%s: exit code %d for "%s" in %s; want %d\n' "$script" "$got" "$line" "$file" "$want"
    wrong=1
  fi
}

expect 0 check_includes.sh harness/a.cc '#include "reference/tensor.h"'
expect 0 check_includes.sh cuda/a.cu '#include "harness/abi/assay_candidate.h"'
expect 0 check_includes.sh cuda/a.h $'#pragma once\n#include <cuda_runtime.h>'
expect 1 check_includes.sh reference/a.h $'#pragma once\n#include "cuda/rms_norm/rms_norm.h"'
expect 1 check_includes.sh reference/a.cc '#  include <harness/core/call.h>'
expect 1 check_includes.sh reference/a.cc '#include <cuda_runtime.h>'
expect 1 check_includes.sh reference/a.h $'#pragma once\n#include <nlohmann/json.hpp>'
expect 0 check_includes.sh reference/testing/a.h $'#pragma once\n#include <nlohmann/json.hpp>'
expect 1 check_includes.sh cuda/a.cu '#include "harness/core/call.h"'
expect 1 check_includes.sh cuda/b/a.cuh $'#pragma once\n#include "reference/tensor.h"'
expect 1 check_includes.sh cuda/a.cc '#include <Eigen/Core>'
expect 1 check_includes.sh harness/a.cc '#include "cuda/simt/executor.h"'
expect 1 check_includes.sh harness/a.cc '#include "tools/assay/main.h"'
expect 1 check_includes.sh tools/a.cc '#include "cuda/simt/executor.h"'
expect 1 check_includes.sh reference/a.cc '#include "../tensor.h"'
expect 1 check_includes.sh reference/a.h 'struct Tensor;'

expect 0 lint_kernels.sh cuda/a.cu '__global__ void k(float* x) { x[0] = 1; }  // no asm here'
expect 0 lint_kernels.sh cuda/simt/a.cuh 'asm volatile("bar.sync 0;");'
expect 0 lint_kernels.sh cuda/a.cu '#if SIMT_HOST || defined(__CUDA_ARCH_FEAT_SM90_ALL)'
expect 0 lint_kernels.sh cuda/a.cu '  static constexpr int kMaxThreads = 128;'
expect 0 lint_kernels.sh cuda/a.cu '  for (int i = 0; i < n; ++i) sum += x[i];'
expect 1 lint_kernels.sh cuda/a.cu '  asm volatile("bar.sync 0;");'
expect 1 lint_kernels.sh cuda/a.cu '  __shared__ float tile[32];'
expect 1 lint_kernels.sh cuda/a.cu '  kernel<<<grid, block>>>(x);'
expect 1 lint_kernels.sh cuda/a.cu '#include <cub/cub.cuh>'
expect 1 lint_kernels.sh cuda/a.cuh '#include <cooperative_groups.h>'
expect 1 lint_kernels.sh cuda/a.cu '  unsigned mask = __activemask();'
expect 1 lint_kernels.sh cuda/a.cu '  x += __shfl_down(x, 1);'
expect 1 lint_kernels.sh cuda/a.cu '  volatile float* s = shared;'
expect 1 lint_kernels.sh cuda/a.cu '#ifdef __CUDA_ARCH__'
expect 1 lint_kernels.sh cuda/a.cu '#if SIMT_HOST'
expect 1 lint_kernels.sh cuda/a.cu '  while (atomicAdd(flag, 0) == 0);'
expect 1 lint_kernels.sh cuda/a.cu '__device__ int counter;'
expect 1 lint_kernels.sh cuda/a.cu '  static int calls = 0;'
exit "$wrong"
