#!/usr/bin/env bash
# All tests, in stages; it stops at the first stage that fails.
#
#   scripts/test.sh              every stage
#   scripts/test.sh check race   only these
#   scripts/test.sh chaos        endurance/ for CHAOS_MINUTES; neither it nor fuzz is among "every"
#
# TEST_FLAGS, RACE_PACKAGES, RACE_PARTS and FUZZTIME change what the stages do.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v go >/dev/null || { echo "install Go first: https://go.dev/dl" >&2; exit 1; }

all=(deps check unit+conformance race compat demo-codes)
read -ra race_packages <<<"${RACE_PACKAGES:-./internal/index ./internal/live ./internal/scan ./internal/calls ./internal/emulator ./internal/consent ./internal/webhooks ./internal/ledger ./internal/stream ./internal/scanapi ./internal/lane ./internal/people}"
# of these only the tests that start goroutines: the others run one, and take most of the time
read -ra race_parts <<<"${RACE_PARTS-./internal/store ./internal/stats ./internal/accounts ./internal/api ./internal/console}"
read -ra test_flags <<<"${TEST_FLAGS:--count=1 -timeout 60m -vet=off}" # check has vetted all

child=
place=
postgres=
stage=
summary=()

# run waits for a command in a session of its own, so that a signal to this script takes effect
# at once and reaches all that the command has started. (A command in the background would
# ignore Ctrl-C; env undoes that.)
run() {
  local status=0
  setsid env --default-signal "$@" </dev/null &
  child=$!
  wait "$child" || status=$?
  child=
  return "$status"
}

finish() {
  local status=$?
  trap '' INT TERM HUP
  set +e
  if [ -n "$child" ]; then
    for signal in INT TERM KILL; do
      kill "-$signal" -- "-$child" "$child" 2>/dev/null
      for _ in {1..20}; do kill -0 -- "-$child" 2>/dev/null && sleep 0.1; done
    done
  fi
  [ -z "$postgres" ] || scripts/postgres.sh stop "$postgres"
  [ -z "$place" ] || rm -rf "$place"
  [ -z "$stage" ] || summary+=("$(printf '%-18s %5d s  FAILED' "$stage" $((SECONDS - began)))")
  printf '\n== summary\n'
  printf '   %s\n' "${summary[@]}"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# a_place makes a folder for what tests write: in memory where there is enough of it, else on the disk. Tests make and
# drop a thousand databases, and what their files cost the kernel on a disk is a third of the whole run.
a_place() {
  local memory=/dev/shm free_there free_memory
  free_there=$(df -Pk "$memory" 2>/dev/null | awk 'NR == 2 {print $4}')
  free_memory=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo 2>/dev/null)
  if [ "${free_there:-0}" -gt 6000000 ] && [ "${free_memory:-0}" -gt 10000000 ]; then
    place=$(mktemp -d "$memory/qrjump-tests.XXXXXX")
    printf '#!/bin/sh\n' >"$place/runs"
    chmod 711 "$place" "$place/runs" # PostgreSQL runs as another user
    if "$place/runs" 2>/dev/null; then return; fi # some containers forbid it
    rm -rf "$place"
  fi
  place=$(mktemp -d "${TMPDIR:-/tmp}/qrjump-tests.XXXXXX")
  chmod 711 "$place"
}

# on_postgres runs a command that finds a fresh PostgreSQL server in TEST_POSTGRES. Tests kill processes and count what
# survived; only chaos takes the power away, so only there must PostgreSQL, and what tests write, wait for the disk.
# The compiler's files stay on the disk: they are the largest, and nobody waits for them to be there. Small servers that
# live for a second have a small heap, which Go would collect all the time: up to a quarter of what a test computes.
on_postgres() {
  local url status=0
  if [ "${POSTGRES_FSYNC:-off}" = on ]; then
    place=$(mktemp -d /tmp/qrjump-tests.XXXXXX)
    chmod 711 "$place"
  else
    a_place
  fi
  postgres=$place/postgres
  url=$(POSTGRES_FSYNC=${POSTGRES_FSYNC:-off} scripts/postgres.sh start "$postgres")
  mkdir -m 711 "$place/tmp"
  run env "GOTMPDIR=${GOTMPDIR:-${TMPDIR:-/tmp}}" "TMPDIR=$place/tmp" "GOGC=${GOGC:-400}" \
    "TEST_POSTGRES=$url" QRJUMP_REQUIRE_POSTGRES=1 "$@" || status=$?
  scripts/postgres.sh stop "$postgres"
  postgres=
  rm -rf "$place" || { sleep 1 && rm -rf "$place"; } # a browser may still be going away
  place=
  return "$status"
}

# concurrent prints the pattern of the tests of packages that start goroutines. A pattern of none would pass: it fails.
concurrent() {
  local names
  # shellcheck disable=SC2068 # the shell finds the files
  names=$(awk -f scripts/concurrent-tests.awk ${@/%//*_test.go} | paste -sd'|')
  [ -n "$names" ] || { echo "no test of $* starts goroutines: see scripts/concurrent-tests.awk" >&2; return 1; }
  echo "^($names)\$"
}

run_stage() {
  case $1 in
  deps) run scripts/install-test-deps.sh ;;
  check) run make --no-print-directory check ;;
  chaos) POSTGRES_FSYNC=on on_postgres go test -count=1 -v -timeout 24h ./endurance ;; # bounded by CHAOS_MINUTES
  unit+conformance) on_postgres env QRJUMP_REQUIRE_CHROMIUM=1 go test -p "$(($(nproc) + 1))" "${test_flags[@]}" ./... ;;
  # Short: tables and simulations prove nothing more here. SQLite is C in Go's clothes with locks of its own: watching
  # its memory costs four fifths of the time and looks at none of our code.
  race)
    local watched=(env CGO_ENABLED=1 go test -race -short -gcflags=modernc.org/sqlite/lib=-race=false
      -gcflags=modernc.org/libc=-race=false "${test_flags[@]}")
    on_postgres "${watched[@]}" "${race_packages[@]}"
    [ ${#race_parts[@]} != 0 ] || return 0
    local tests
    tests=$(concurrent "${race_parts[@]}")
    on_postgres "${watched[@]}" -run "$tests" "${race_parts[@]}"
    ;;
  fuzz) run scripts/fuzz.sh "${FUZZTIME:-20s}" ;; # what it found before runs as tests
  compat) run compat/run.sh ;;
  demo-codes) run env DEMO_CODES=100000 scripts/demo-codes.sh ;;
  *) echo "no stage $1; there are: ${all[*]}" >&2; return 2 ;;
  esac
}

[ $# != 0 ] || set -- "${all[@]}"
for stage; do
  printf '\n== stage: %s\n' "$stage"
  began=$SECONDS
  run_stage "$stage"
  summary+=("$(printf '%-18s %5d s' "$stage" $((SECONDS - began)))")
done
stage=
