#!/usr/bin/env bash
# Compiles the kernels with nvcc for all architectures, warnings and spills being errors, and prints the register
# report: registers, shared memory, spills and the warps that fit, by kernel and architecture. Needs no GPU. The self-test
# of the wrappers is compiled for the same architectures; it runs where there is a device, and says SKIPPED elsewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/setup.sh --with-nvcc
ci/build.sh cuda assay_cuda_candidate_registers
ci/build.sh cuda simt_selftest
skipped=77
build/cuda/bin/simt_selftest || (($? == skipped))
