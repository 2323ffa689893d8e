#!/usr/bin/env bash
# The register report fails on a spill, on local memory and on a report without kernels, and passes without them.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
wrong=0

# report STACK SPILLS: what ptxas writes for one kernel.
report() {
  cat <<END
ptxas info    : Compiling entry function '_Z1kPf' for 'sm_80'
ptxas info    : Function properties for _Z1kPf
    $1 bytes stack frame, $2 bytes spill stores, $2 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 256 bytes smem, 360 bytes cmem[0]
END
}
# expect STATUS TEXT: the report on standard input makes the tool end with STATUS and print TEXT.
expect() {
  local got=0 said
  cat >"$folder/report.txt"
  said=$("$here/register_report.py" --library "$folder/library" --dynamic "$folder/dynamic.txt" \
    "$folder/report.txt" 2>&1) || got=$?
  if ((got != $1)) || [[ $said != *"$2"* ]]; then
    printf 'exit code %d and:\n%s\nwant %d and "%s"\n' "$got" "$said" "$1" "$2"
    wrong=1
  fi
}

# The library's PTX: a block of THREADS, with dynamic shared memory if DYNAMIC is its name.
library() {
  printf 'ELF\0.version 9.0\n.extern .shared .align 16 .b8 raw[];\n' >"$folder/library"
  printf '.entry _Z1kPf(\n.param .u64 _Z1kPf_param_0\n)\n.maxntid %s\n{\nmov.u64 %%rd1, %s;\n}\0' "$1" "$2" >>"$folder/library"
}

: >"$folder/dynamic.txt"
library '96, 1, 1' none
expect 0 '1 kernels, 1 architectures, 0 with spills' < <(report 0 0)
# 40 registers a thread are 1,280 a warp: 12 warps in each quarter of the register file, 48 in all; 16 blocks of three.
expect 0 '40         256      0     96  48/64' < <(report 0 0)
# 13 blocks of 12 KB and the 1 KB of each would need 169 of 164 KB.
expect 0 '40       12288      0     96  36/64' < <(report 0 0 | sed 's/ 256 bytes smem/ 12288 bytes smem/')
# 64 barriers for 5 a block: 12 blocks.
expect 0 '40         256      0     96  36/64' < <(report 0 0 | sed 's/used 1 barriers/used 5 barriers/')
library '512, 1, 1' raw
expect 1 'dynamic.txt lacks k, which read dynamic shared memory' < <(report 0 0)
printf 'k\t61440\tsome layer\n' >"$folder/dynamic.txt"
# 2 blocks of 60 KB and 256 bytes, and 1 KB each.
expect 0 '40   256+61440      0    512  32/64' < <(report 0 0)
printf 'k\t166784\tsome layer\n' >"$folder/dynamic.txt"  # one block may have 163 KB
expect 0 '40  256+166784      0    512   0/64' < <(report 0 0)
printf 'k\t61440\tsome layer\nl\t1\tsome layer\n' >"$folder/dynamic.txt"
expect 1 'dynamic.txt has l, which are no kernels with dynamic shared memory' < <(report 0 0)
: >"$folder/dynamic.txt"
library '32' none
expect 0 '40         256      0     32  32/64' < <(report 0 0)  # no more blocks
: >"$folder/library"
expect 0 '40         256      0      -      -' < <(report 0 0)
expect 1 'SPILL k on sm_80: 8 bytes spilled, 8 bytes of stack' < <(report 8 4)
expect 1 'SPILL k on sm_80: 0 bytes spilled, 16 bytes of stack' < <(report 16 0)
expect 1 'no kernel' <<<""
exit "$wrong"
