#!/usr/bin/env bash
# Installs what is missing, builds Assay and judges its own kernels on the CPU: all quick cases and every fixture
# recorded from upstream. Further arguments go to `assay verify`. Exit code 0: all passed; 2: needs packages that only
# root can install (the command is printed).
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

"$root/tools/setup.sh"
"$root/ci/build.sh" release assay assay_worker assay_simt_candidate
"$root/build/release/bin/assay" verify --tier quick --fixture "$root"/golden/upstream/rms*.json "$@"
