#!/bin/bash
# Compiles a sanitized program, or a static library for several of them, in parallel and through ccache where it is there.
# These are built by this and not by Meson, as they need clang and the sanitizers whatever the rest of the build uses.
#   build.sh OUTPUT ROOT GENERATED_HEADERS KERNELS.so SANITIZERS SOURCE|LIBRARY.a...
# An OUTPUT that ends in .a is a library. INGOT_DEFINES in the environment holds further compiler arguments: which drivers
# there are, whether bytecode is.
set -euo pipefail
output=$1 root=$2 generated=$3 kernels=$4 sanitizers=$5
shift 5
clang=${CLANGXX:-$(command -v clang++-19 || command -v clang++)}
ccache=$(command -v ccache || true)
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1 # another clone of the same sources is the same program
objects=$output.objects
mkdir -p "$objects"
flags=(-std=c++20 -gline-tables-only -O1 -fsanitize="$sanitizers" -fno-sanitize-recover=all -fno-omit-frame-pointer -I"$root"
       -I"$root/include" -I"$generated" ${INGOT_DEFINES:-})
compile() {
  local more=(-Wno-pass-failed)
  case $1 in # as src/meson.build has it
    */lanes_v3.cpp) more+=(-march=x86-64-v3 -ffp-contract=fast) ;;
    */lanes_v4.cpp) more+=(-march=x86-64-v4 -mprefer-vector-width=512 -ffp-contract=fast) ;;
    */hand_made.cpp) more+=("-DINGOT_TEST_KERNELS=\"$kernels\"") ;;
  esac
  $ccache "$clang" "${flags[@]}" "${more[@]}" -c "$1" -o "$2"
}
names=()
libraries=()
running=()
for source in "$@"; do
  if [[ $source == *.a ]]; then libraries+=("$source"); continue; fi
  object=$objects/$(echo "${source#"$root"/}" | tr / _).o
  names+=("$object")
  while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-$(nproc)}" ]; do wait -n; done
  compile "$source" "$object" &
  running+=($!)
done
for job in "${running[@]}"; do wait "$job"; done
if [[ $output == *.a ]]; then
  rm -f "$output"
  ar rcs "$output" "${names[@]}"
else
  "$clang" -fsanitize="$sanitizers" "${names[@]}" ${libraries[@]+"${libraries[@]}"} -o "$output"
fi
