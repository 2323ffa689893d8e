#!/usr/bin/env bash
# What `assay candidate new OPERATION` writes compiles and gets the verdict it should:
#
#   ci/candidate_test.sh ASSAY OPERATION                  by that program
#   ci/candidate_test.sh --install BUILD_FOLDER OPERATION    by a fresh installation of that build
#
# A kernel that the template has must pass; one that it leaves to the user must be refused as not written, and no
# verdict be made of that. A kernel with a mistake must fail.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

if [[ $1 == --install ]]; then
  cmake --install "$2" --prefix "$folder/installed" >/dev/null
  assay=$folder/installed/bin/assay
  shift
else
  assay=$1
fi
operation=$2
mine="$folder/my kernels/mine"

fail() {
  printf '%s\n' "$*"
  exit 1
}
build() { cmake --build "$mine/build" >"$folder/build.txt" 2>&1 || fail "$(cat "$folder/build.txt")"; }
# verdict STATUS TEXT: verifying ends with that exit code and says TEXT.
verdict() {
  local status=0
  "$assay" verify "$operation" --candidate "$mine/build/libmine.so" >"$folder/verdict.txt" 2>&1 || status=$?
  if ((status != $1)) || ! grep -q -- "$2" "$folder/verdict.txt"; then
    fail "exit code $status; want $1 and \"$2\" in:" "$(tail -n 60 "$folder/verdict.txt")"
  fi
}

"$assay" candidate new "$operation" "$mine"
# A folder with something in it is left alone.
if "$assay" candidate new "$operation" "$mine" >/dev/null 2>&1; then
  fail "candidate new wrote over a candidate"
fi
cmake -S "$mine" -B "$mine/build" -G Ninja -DASSAY_WARNINGS_ARE_ERRORS=ON >"$folder/configure.txt" 2>&1 ||
  fail "$(cat "$folder/configure.txt")"
build

case $operation in
  rms_norm.forward | gated_rms_norm.forward)
    verdict 0 PASSED
    # The last partial sum left out: half the threads' squares are missing.
    sed -i 's/half = kThreads \/ 2/half = kThreads \/ 4/' "$mine/kernel.cu"
    build
    verdict 1 output.hidden_states
    ;;
  *)
    verdict 1 'not written yet'
    ;;
esac
