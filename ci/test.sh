#!/usr/bin/env bash
# Installs what is missing, builds everything of the release preset and runs all tests. Further arguments go to ctest:
# ci/test.sh -R rms_norm. Exit code 2: needs packages that only root can install (the command is printed).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/setup.sh --with-clang   # the reference must give the same bits from a second compiler
ci/build.sh release
ctest --preset release --parallel "${JOBS:-$(nproc)}" "$@"
