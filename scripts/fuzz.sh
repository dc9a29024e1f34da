#!/usr/bin/env bash
# Runs every fuzz target of the module for TIME each: scripts/fuzz.sh [TIME], for example 20s, 5m or 100000x.
# First, both scan listeners answer 100,000 random requests (LISTENER_REQUESTS, LISTENER_SEED).
# A failing input is written to the package's testdata/fuzz; commit it with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."

fuzztime=${1:-20s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

LISTENER_REQUESTS=${LISTENER_REQUESTS:-100000} go test -count=1 -run '^TestScanListeners_IdenticalResponsesRandomized$' ./internal/edge/scanapi

# go test -list prints the names of the targets before the path of their package.
list=$(go test -list '^Fuzz' ./...) || { printf '%s\n' "$list"; exit 1; }
targets=$(awk '/^Fuzz/ { names[++n] = $1 } $1 == "ok" { for (i = 1; i <= n; i++) print $2, names[i]; n = 0 }' <<<"$list")
[ -n "$targets" ] || { echo "no fuzz targets"; exit 0; }

while read -r package target; do
  printf -- '-- %s %s, %s\n' "$package" "$target" "$fuzztime"
  if go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" -fuzzminimizetime 50x "$package" >"$log" 2>&1 </dev/null; then
    tail -n 3 "$log"
  # Go 1.26 sometimes reports the end of the fuzz time as a failure: https://go.dev/issue/75804
  elif grep -qx ' *context deadline exceeded' "$log" && ! grep -q 'Failing input written' "$log"; then
    grep '^fuzz: elapsed' "$log" | tail -n 1 || true
    echo "end of the fuzz time, no failure"
  else
    cat "$log"
    exit 1
  fi
done <<<"$targets"
