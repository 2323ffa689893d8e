#!/usr/bin/env bash
# Compiles the kernels with nvcc for all architectures, warnings and spills being errors, and prints the register
# report: registers, shared memory, spills and the warps that fit, by kernel and architecture. Needs no GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/setup.sh --with-nvcc
ci/build.sh cuda assay_cuda_candidate_registers
