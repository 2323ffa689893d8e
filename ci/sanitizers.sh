#!/usr/bin/env bash
# Smoke cases under the sanitizers: ci/sanitizers.sh [asan|tsan|msan...]. Under asan an index off by one is found,
# under tsan a race between CUDA threads, under msan a read of something that nobody wrote. Only the worker, the
# executor and the kernels are sanitized; the release build of `assay` drives them and judges the results.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
presets=("$@")
if ((${#presets[@]} == 0)); then
  presets=(asan tsan msan)
fi

tools/setup.sh --with-clang
ci/build.sh release assay
for preset in "${presets[@]}"; do
  printf '\n== %s\n' "$preset"
  ci/build.sh "$preset"
  ctest --preset "$preset" --parallel "${JOBS:-$(nproc)}"
  build/release/bin/assay verify --worker "build/$preset/bin/assay_worker" \
    --candidate "build/$preset/lib/libassay_simt.so" rms_norm dtype=bf16
done
