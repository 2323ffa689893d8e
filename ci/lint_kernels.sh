#!/usr/bin/env bash
# The rules for kernel writers that a search can check: ci/lint_kernels.sh [ROOT]. Looks at cuda/ outside cuda/simt/,
# comments aside. Prints each line that breaks a rule; exit code 1 if any does.
set -euo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"
broken=0

files() { find cuda -path cuda/simt -prune -o -type f \( -name '*.cu' -o -name '*.cuh' "$@" \) -print | sort; }
# Every line as file:line:text, without its // comment.
# shellcheck disable=SC2016  # the dollars are awk's
lines() { xargs -r awk '{ sub(/\/\/.*/, ""); print FILENAME ":" FNR ":" $0 }'; }
device=$(files | lines)
everything=$(files -o -name '*.h' -o -name '*.cc' | lines)

# forbid TEXT PATTERN WHY: no line of TEXT matches the Perl regular expression PATTERN from its beginning.
forbid() {
  local found
  found=$(grep -P "^[^:]+:\d+:(?:$2)" <<<"$1" || true)
  if [[ -n $found ]]; then
    printf '%s\n' "$found" | sed "s#\$#   <- $3#"
    broken=1
  fi
}

# 1. What differs between the compilers lives in cuda/simt/.
forbid "$everything" '.*\b(asm|__asm__|__asm)\b' 'inline PTX belongs in cuda/simt/, beside its host twin'
forbid "$everything" '.*\b__shared__\b' 'use SIMT_SHARED or SIMT_DYN_SMEM'
forbid "$everything" '.*<<<' 'use simt::launch'
gpu_only='does not run on the CPU; use the wrappers of cuda/simt/'
headers='cooperative_groups|cub/|thrust/|mma\.h|cute/|cutlass/|cuda/(barrier|pipeline|ptx)'
forbid "$everything" ".*#\s*include\s*[<\"]($headers)" "$gpu_only"
forbid "$everything" '.*\b(nvcuda::wmma|cooperative_groups|cub)::' "$gpu_only"
# 2. Lanes say who takes part, and synchronise before they read each other.
forbid "$device" '.*\b__activemask\b' 'name the lanes: the compiler may split a warp anywhere'
forbid "$device" '.*\b__(shfl(_up|_down|_xor)?|ballot|any|all)\s*\(' 'use the _sync form with a mask'
forbid "$device" '.*\bvolatile\b' 'use a barrier or an atomic'
# 3. One logic for both compilers.
forbid "$device" '.*#\s*(el)?if.*(__CUDA_ARCH__|__CUDACC__|__NVCC__|\bSIMT_HOST\b)(?!.*__CUDA_ARCH_FEAT_)' \
  'one source, one logic; only hardware features may be guarded, by __CUDA_ARCH_FEAT_...'
# 4. Waiting yields, and nothing outlives a launch.
forbid "$device" '.*(?<!\} )\b(?:while|for)\s*(\((?:[^()]++|(?1))*\))\s*;' 'a loop that waits calls simt::spin_yield'
forbid "$device" '\s*(static\s+|inline\s+)*__(device|managed)__(?!.*\().*;' 'no mutable device globals'
forbid "$device" '\s+static\s+(?!const\b|constexpr\b|inline\s+constexpr\b|SIMT_DEV\b|__device__)' 'no mutable statics'
exit "$broken"
