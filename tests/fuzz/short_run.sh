#!/bin/bash
# A bounded libFuzzer run from the hand-made corpus: short_run.sh FUZZER SECONDS
# A finding leaves its input beside the fuzzer and its report on stdout.
set -euo pipefail
fuzzer=$1 seconds=$2
corpus=$(mktemp -d)
trap 'rm -rf "$corpus"' EXIT
"$fuzzer" -ingot_write_seeds="$corpus" >/dev/null
log=$corpus.log
if "$fuzzer" -max_len=65536 -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -seed=1 \
     -artifact_prefix="$fuzzer-" "$corpus" >"$log" 2>&1; then
  echo "ok $(basename "$fuzzer")/run # $(grep -E 'Done [0-9]+ runs' "$log" | tail -1), coverage $(grep -oE 'cov: [0-9]+' "$log" | tail -1)"
  rm -f "$log"
else
  tail -40 "$log"
  echo "not ok $(basename "$fuzzer")/run # $(grep -E 'SUMMARY|ERROR' "$log" | head -1)"
  rm -f "$log"
  exit 1
fi
