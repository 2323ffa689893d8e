#!/usr/bin/env bash
# Who may include whom, and that each header can be included twice: ci/check_includes.sh [ROOT]. Prints what breaks a
# rule; exit code 1 if anything does.
#
#   tools/ -> harness/ -> reference/        cuda/ stands alone and is reached through the candidate interface only
#
# harness/abi/assay_candidate.h is the public door: any room may include it.
set -euo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"
broken=0

# forbid ROOM PATTERN WHY [EXCEPT]: no file of ROOM, those whose path matches EXCEPT aside, includes what matches
# PATTERN. Both are extended regular expressions.
forbid() {
  local room=$1 pattern=$2 why=$3 except=${4:-^$} found
  [[ -d $room ]] || return 0
  found=$(grep -rnE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($pattern)" "$room" \
    --include='*.h' --include='*.cuh' --include='*.cc' --include='*.cu' |
    grep -vF 'harness/abi/assay_candidate.h' | grep -vE "^($except)" || true)
  if [[ -n $found ]]; then
    printf '%s\n' "$found" | sed "s#\$#   <- $why#"
    broken=1
  fi
}

forbid reference 'cuda/|harness/|tools/' 'reference/ sees no other room'
forbid cuda 'reference/|harness/|tools/' 'cuda/ sees no other room'
forbid harness 'cuda/|tools/' 'harness/ reaches kernels through the candidate interface only'
forbid tools 'cuda/' 'tools/ reaches kernels through the candidate interface only' 'tools/candidate_template/'

forbid reference 'cuda|CLI' 'reference/ is C++20 and Eigen'
forbid reference 'nlohmann' 'reference/ is C++20 and Eigen; only its tests read JSON' \
  'reference/testing/|reference/.*_test.cc'
forbid cuda 'Eigen|nlohmann|CLI' 'kernels need the CUDA toolkit alone; only tests read JSON' 'cuda/.*_test.cu'
forbid harness 'cuda' 'harness/ starts on a machine without CUDA'
for room in reference cuda harness tools; do
  forbid "$room" '\.\.?/' 'includes are written from the root'
done
# The public door is C and has a guard of C.
while read -r header; do
  printf '%s   <- no #pragma once\n' "$header"
  broken=1
done < <(grep -rLs '^#pragma once' reference cuda harness tools --include='*.h' --include='*.cuh' |
  grep -vF 'harness/abi/assay_candidate.h' || true)
exit "$broken"
