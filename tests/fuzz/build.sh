#!/bin/bash
# Compiles a sanitized program from sources, in parallel and through ccache where it is there. The fuzzers are built by
# this and not by Meson, as they need clang and the sanitizers whatever the rest of the build uses.
#   build.sh OUTPUT ROOT GENERATED_HEADERS KERNELS.so SANITIZERS SOURCE...
# INGOT_DEFINES in the environment holds further compiler arguments: which drivers there are, whether bytecode is.
set -euo pipefail
output=$1 root=$2 generated=$3 kernels=$4 sanitizers=$5
shift 5
clang=${CLANGXX:-$(command -v clang++-19 || command -v clang++)}
ccache=$(command -v ccache || true)
objects=$output.objects
mkdir -p "$objects"
flags=(-std=c++20 -g -O1 -fsanitize="$sanitizers" -fno-sanitize-recover=all -fno-omit-frame-pointer -I"$root"
       -I"$root/include" -I"$generated" "-DINGOT_TEST_KERNELS=\"$kernels\"" ${INGOT_DEFINES:-})
compile() {
  local level=(-Wno-pass-failed)
  case $1 in # as src/meson.build has it
    */lanes_v3.cpp) level+=(-march=x86-64-v3 -ffp-contract=fast) ;;
    */lanes_v4.cpp) level+=(-march=x86-64-v4 -mprefer-vector-width=512 -ffp-contract=fast) ;;
  esac
  $ccache "$clang" "${flags[@]}" "${level[@]}" -c "$1" -o "$2"
}
names=()
running=()
for source in "$@"; do
  object=$objects/$(echo "${source#"$root"/}" | tr / _).o
  names+=("$object")
  while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-$(nproc)}" ]; do wait -n; done
  compile "$source" "$object" &
  running+=($!)
done
for job in "${running[@]}"; do wait "$job"; done
"$clang" -fsanitize="$sanitizers" "${names[@]}" -o "$output"
