#!/usr/bin/env bash
# Configures (once) and builds a preset: ci/build.sh PRESET [TARGET...]. Without targets everything.
# JOBS=N sets how many compilers run at a time; the default is one per core, fewer where memory is short.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:?usage: ci/build.sh PRESET [TARGET...]}
shift

gib_per_compiler=2
cores=$(nproc)
gib=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
fitting=$((gib / gib_per_compiler > 0 ? gib / gib_per_compiler : 1))
jobs=${JOBS:-$((cores < fitting ? cores : fitting))}

# A folder that was configured reconfigures itself when a CMake file changes.
if [[ ! -f build/$preset/build.ninja ]]; then
  cmake --preset "$preset"
fi
targets=()
if (($# > 0)); then
  targets=(--target "$@")
fi
cmake --build --preset "$preset" --parallel "$jobs" "${targets[@]}"
