#!/bin/bash
# Sets up, builds and runs every test; the last line is `N passed, N failed, N skipped`.
#
#   ./test.sh                everything that must hold on each change, within 55 minutes on 2 cores; of the long
#                            suites a share that changes with the day and the commit, checked against tests/results/
#   ./test.sh --full         the long suites whole, resumable, writing tests/results/*.json
#   ./test.sh --quick        no sanitizer build, smaller shares
#   ./test.sh --suite=NAME   only this suite (Meson test names, or models, networks, onnx-suite-llvm-cpu, ...)
set -euo pipefail
cd "$(dirname "$0")"
sanitize=yes
arguments=()
for argument in "$@"; do
  case $argument in
    --quick) sanitize=no; arguments+=(--shares=20) ;;
    --suite=*) sanitize=no; arguments+=("$argument") ;;
    --full) arguments+=("$argument") ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done

tools/setup.sh test
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 # what another clone compiled is of use here
build() { # build FOLDER OPTION...
  local folder=$1; shift
  if [ -f "$folder/build.ninja" ]; then meson configure "$folder" "$@" >/dev/null
  else meson setup "$folder" "$@"; fi
  ninja -C "$folder" -j "${JOBS:-$(nproc)}" --quiet || ninja -C "$folder" -j 1
}
# Without debug information, which would take a third of the build's time.
build build -Dbuildtype=debugoptimized -Ddebug=false -Ddrivers=local-sync,local-task,vulkan,cuda,hip,amdgpu -Dtests=true -Dexamples=true -Daotc=enabled
builds=(--build=build)
if [ $sanitize = yes ]; then
  # The same tests under address and undefined-behaviour checks; LLVM itself is not instrumented. GCC takes
  # several times as long to compile this as clang.
  CXX="ccache clang++-19" build build-asan -Dbuildtype=debugoptimized -Doptimization=0 -Ddebug=false -Dcpp_args=-gline-tables-only -Db_sanitize=address,undefined -Db_lundef=false \
    -Ddrivers=local-sync,local-task,vulkan,cuda,hip,amdgpu -Dtests=true -Dexamples=false -Daotc=enabled
  builds+=(--build=build-asan)
fi
export ASAN_OPTIONS=detect_leaks=1:halt_on_error=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:suppressions=$PWD/tests/ubsan.supp
exec python3 tests/run.py "${builds[@]}" ${arguments[@]+"${arguments[@]}"}
