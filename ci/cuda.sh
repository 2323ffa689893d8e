#!/usr/bin/env bash
# Compiles the kernels with nvcc for all architectures, warnings and spills being errors, and writes the register report,
# build/cuda/ptxas/assay_cuda_candidate.txt: registers, shared memory, spills, threads and theoretical occupancy, by
# kernel and architecture. Needs no GPU. The self-test of the wrappers is compiled for the same architectures; it runs
# where there is a device, and says SKIPPED elsewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/setup.sh --with-nvcc
ci/build.sh cuda assay_cuda_candidate_registers
ci/build.sh cuda simt_selftest
skipped=77
build/cuda/bin/simt_selftest || (($? == skipped))
