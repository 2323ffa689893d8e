#!/usr/bin/env bash
# All quick cases under the sanitizers: ci/sanitizers.sh [asan|tsan|msan...]. Under asan an index off by one is found,
# under tsan a race between CUDA threads, under msan a read of something that nobody wrote. Only the worker, the
# executor and the kernels are sanitized; the release build of `assay` drives them and judges the results.
# ctest runs the must-fail table (cuda/simt/mustfail) and a short soak (cuda/soak) in each of these builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
presets=("$@")
if ((${#presets[@]} == 0)); then
  presets=(asan tsan msan)
fi

# verify PRESET LIBRARY ARGUMENT...: `assay verify` with the sanitized worker and build/PRESET/lib/LIBRARY.
verify() {
  local build="build/$1" library=$2
  shift 2
  build/release/bin/assay verify --worker "$build/bin/assay_worker" --candidate "$build/lib/$library" "$@"
}

# A planted race that the results of the first schedule do not show: ThreadSanitizer must.
must_see_the_race() {
  local case_line said
  ci/build.sh tsan assay_break_sum_not_guarded
  case_line=$(sed -n 's/^sum_not_guarded *|[^|]*| *\([^|]*[^| ]\) *|.*/\1/p' cuda/candidate/planted.txt)
  if said=$(verify tsan planted/libassay_break_sum_not_guarded.so --schedules 1 "$case_line" 2>&1) ||
    [[ $said != *"data race"* ]]; then
    printf '%s\ntsan: a planted race (sum_not_guarded) went unreported\n' "$said" >&2
    return 1
  fi
  printf 'tsan: the planted race is reported, as it must be\n'
}

tools/setup.sh --with-clang
ci/build.sh release assay
for preset in "${presets[@]}"; do
  printf '\n== %s\n' "$preset"
  ci/build.sh "$preset"
  ctest --preset "$preset" --parallel "${JOBS:-$(nproc)}"
  # A sanitizer judges each access, whatever the outcome: the first schedule and the one in which warps run ahead show it
  # as much as all four, in half the time.
  verify "$preset" libassay_simt.so --schedules 2
  if [[ $preset == tsan ]]; then
    must_see_the_race
  fi
done
