#!/usr/bin/env bash
# Installs what is missing, builds Assay, judges the reference by every fixture recorded from upstream, and the kernels
# on the CPU by all quick cases and the fixtures of their layers. Further arguments go to `assay verify`.
# Exit code 0: all passed; 2: needs packages that only root can install (the command is printed).
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

"$root/tools/setup.sh"
"$root/ci/build.sh" release assay assay_worker assay_simt_candidate
"$root/build/release/bin/assay" golden check "$root/golden/upstream"
printf '\n'
"$root/build/release/bin/assay" verify --tier quick --fixture "$root"/golden/upstream/{block_train_mamba,mamba2,rms,ssd,ssm}*.json "$@"
