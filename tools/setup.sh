#!/usr/bin/env bash
# Installs what a bare Debian 12 machine lacks to build Assay. What is there already is left alone: with nothing
# missing it calls neither apt nor pip, needs no network and no root, and is done at once.
#
#   tools/setup.sh [--with-nvcc] [--with-clang]
#
#   --with-nvcc    also a CUDA compiler, for the cuda preset
#   --with-clang   also clang and its sanitizer runtimes, for the msan preset and the compiler comparison
#
# Exit codes: 0 everything is there; 1 an installation failed; 2 packages are missing and only root can install
# them: the command to run is printed.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

packages=(g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev libgtest-dev libbenchmark-dev libcli11-dev
          libfmt-dev libdlpack-dev python3 python3-pip)
# NVIDIA's wheels, all of CUDA 13.0. The executor needs the headers of the first three, libassay_cuda.so all six:
# cuBLASLt's header to compile, its library (0.5 GB) when a dense product runs on a GPU.
header_wheels=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cuda-crt==13.0.88)
nvcc_wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cublas==13.1.0.3)
oldest_cudart=13000   # CUDART_VERSION of the oldest toolkit that we build with
toolkit="$root/build/toolkit"

say() { printf 'setup: %s\n' "$*"; }
usage() { sed -n '2,11{s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

with_nvcc=false
for argument in "$@"; do
  case "$argument" in
    --with-nvcc) with_nvcc=true ;;
    --with-clang) packages+=(clang libclang-rt-14-dev llvm) ;;
    -h | --help) usage; exit 0 ;;
    *) say "unknown argument '$argument'; want --with-nvcc or --with-clang" >&2; exit 1 ;;
  esac
done

missing_packages() {
  local installed package
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
  for package in "${packages[@]}"; do
    grep -qx "installed $package" <<<"$installed" || printf '%s\n' "$package"
  done
}

install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    say "this is not a Debian system; it needs what Debian calls: ${packages[*]}"
    return
  fi
  local missing
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]} == 0)); then
    return
  fi
  if ((EUID != 0)); then
    say "these Debian packages are missing and only root can install them. As root, run:" >&2
    printf '\n  apt-get update && apt-get install -y --no-install-recommends %s\n\n' "${missing[*]}" >&2
    exit 2
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# True if the folder $1 is a CUDA toolkit that is new enough; with $2 = nvcc, one that can compile as well and has
# cuBLAS.
is_toolkit() {
  local home=$1 version
  [[ -f $home/include/cuda_runtime_api.h ]] || return 1
  version=$(sed -n 's/^#define CUDART_VERSION  *\([0-9]*\).*/\1/p' "$home/include/cuda_runtime_api.h")
  ((${version:-0} >= oldest_cudart)) || return 1
  [[ ${2:-} != nvcc || (-x $home/bin/nvcc && -f $home/include/cublasLt.h) ]]
}

# The places that CMake looks at, in its order (tools/cmake/AssayCuda.cmake).
have_toolkit() {
  local on_path homes=("$toolkit")
  if on_path=$(command -v nvcc); then
    homes+=("$(dirname "$(dirname "$(readlink -f "$on_path")")")")
  fi
  homes+=(/usr/local/cuda)
  local home
  for home in "${homes[@]}"; do
    if is_toolkit "$home" "$@"; then
      return 0
    fi
  done
  return 1
}

install_toolkit() {
  local wheels=("${header_wheels[@]}") fresh="$toolkit.part"
  if $with_nvcc; then
    wheels+=("${nvcc_wheels[@]}")
  fi
  say "fetching ${wheels[*]} into ${toolkit#"$root/"}"
  rm -rf "$fresh"
  mkdir -p "$fresh"
  # Debian's own interpreter first: another one on PATH may have no pip.
  local python=/usr/bin/python3
  [[ -x $python ]] || python=python3
  "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
    --only-binary=:all: --target "$fresh/wheels" "${wheels[@]}"
  # The wheels hold one toolkit between them, less the links that a system installation has.
  mv "$fresh/wheels/nvidia/cu13" "$fresh/home"
  mkdir -p "$fresh/home/licenses"
  local info
  for info in "$fresh"/wheels/*.dist-info; do
    mv "$info" "$fresh/home/licenses/"
  done
  ln -s lib "$fresh/home/lib64"
  ln -s libcudart.so.13 "$fresh/home/lib/libcudart.so"
  rm -rf "$toolkit"
  mv "$fresh/home" "$toolkit"
  rm -rf "$fresh"
}

install_packages
if $with_nvcc; then
  have_toolkit nvcc || install_toolkit
else
  have_toolkit || install_toolkit
fi
say "everything is here"
