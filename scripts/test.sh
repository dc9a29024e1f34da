#!/usr/bin/env bash
# The tests, in stages; it stops at the first stage that fails, and ends with a summary in any case.
#
#   scripts/test.sh                  make test: deps format tests
#   scripts/test.sh rest             what make test-all adds to it: deps lint whole race compat codes
#   scripts/test.sh format race      only these stages
#   scripts/test.sh chaos            chaos/ for CHAOS_MINUTES; neither it, fuzz nor mutants is in make test-all
#
# Where programs are missing and cannot be installed, the tests that need them are left out, and the summary names them.
# TEST_FLAGS, TEST_PACKAGES, RACE_PACKAGES, RACE_PARTS, DEMO_CODES and FUZZTIME change what the stages do.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v go >/dev/null || { echo "install Go first: https://go.dev/dl" >&2; exit 1; }

everyday=(deps format tests)
rest=(deps lint whole race compat codes)
read -ra race_packages <<<"${RACE_PACKAGES:-./internal/domain/index ./internal/domain/replica ./internal/domain/scan ./internal/domain/apiusage ./internal/emulator ./internal/edge/consent ./internal/domain/webhooks ./internal/eventlog/scanlog ./internal/eventlog/stream ./internal/edge/scanapi ./internal/edge/fastpath ./internal/domain/iam}"
# of these only the tests that start goroutines: the others run one, and take most of the time
read -ra race_parts <<<"${RACE_PARTS-./internal/store ./internal/domain/stats ./internal/domain/stats/verify ./internal/domain/alarms ./internal/domain/accounts ./internal/edge/api ./internal/edge/console}"
# The packages whose tests take longest begin first, so that none of them runs alone at the end. client is a module of its own: ./...
# does not contain it.
read -ra test_packages <<<"${TEST_PACKAGES:-./chaos ./cmd/qrjump ./internal/server ./internal/store ./internal/edge/console ./internal/domain/stats ./internal/edge/api ./... github.com/qrjump/qrjump/client}"
read -ra test_flags <<<"${TEST_FLAGS:--count=1 -timeout 30m}"

# Small servers that live for a second, and the compiler, have small heaps, which Go would collect all the time: up to a
# quarter of what a test computes, and a fifth of what the compiler does.
export GOGC=${GOGC:-400}
# No test is debugged here: what debuggers read is a tenth of what the compiler does.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-gcflags=all=-dwarf=false"

child=
place=
postgres=
stage=
database=0 # processor time of PostgreSQL servers that have ended, in hundredths of a second
report=$(mktemp -d "${TMPDIR:-/tmp}/qrjump-report.XXXXXX")
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
  [ -z "$postgres" ] || end_postgres
  [ -z "$place" ] || rm -rf "$place"
  [ -z "$stage" ] || ended FAILED
  printf '\n== summary (load %s)\n' "$(cut -d' ' -f1-3 /proc/loadavg 2>/dev/null || echo unknown)"
  printf '   %s\n' "${summary[@]}"
  if ls "$report"/*.json >/dev/null 2>&1; then
    printf '   the slowest tests:\n'
    go tool -modfile=tools.mod gotestsum tool slowest --num 10 --jsonfile <(cat "$report"/*.json) 2>/dev/null |
      sed 's|github.com/qrjump/qrjump/||; s/^/     /'
    awk -f scripts/left-out.awk "$report"/*.json
  fi
  [ ! -s "$report/missing" ] || sed 's/^/   not here: /' "$report/missing"
  rm -rf "$report"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# look sets spent to the processor time, in hundredths of a second, of all that this script has waited for, PostgreSQL
# with it. No subshell could ask: it has waited for nothing.
look() {
  times >"$report/times"
  spent=$(awk 'NR == 2 { gsub(/[ms]/, " "); print int(($1 * 60 + $2 + $3 * 60 + $4) * 100) }' "$report/times")
  spent=$((spent + database))
}

ended() {
  look
  summary+=("$(printf '%-8s %5d s, %5d s of processor time  %s' "$stage" $((SECONDS - began)) $(((spent - used) / 100)) "${1-}")")
}

# a_place makes a folder for what tests write: in memory where there is enough of it, else on the disk. Tests make and
# drop a thousand databases, and what their files cost the kernel on a disk is a third of the whole run.
a_place() {
  local memory=/dev/shm free_there free_memory
  free_there=$(df -Pk "$memory" 2>/dev/null | awk 'NR == 2 {print $4}')
  free_memory=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo 2>/dev/null)
  if [ "${free_there:-0}" -gt 6000000 ] && [ "${free_memory:-0}" -gt 10000000 ]; then
    place=$(mktemp -d "$memory/qrjump-tests.XXXXXX")
    printf '#!/bin/sh\n' >"$place/runs"
    chmod 711 "$place" # PostgreSQL runs as another user
    chmod 755 "$place/runs"
    if "$place/runs" 2>/dev/null; then return; fi # some containers forbid it
    rm -rf "$place"
  fi
  place=$(mktemp -d "${TMPDIR:-/tmp}/qrjump-tests.XXXXXX")
  chmod 711 "$place"
}

# end_postgres stops the server, and first adds what it and its ended sessions have used.
end_postgres() {
  local pid
  if pid=$(head -n 1 "$postgres/data/postmaster.pid" 2>/dev/null); then
    database=$((database + $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | awk '{ n = $12 + $13 + $14 + $15 } END { print n + 0 }')))
  fi
  scripts/postgres.sh stop "$postgres"
  postgres=
}

# on_postgres runs a command that finds a fresh PostgreSQL server in TEST_POSTGRES, where there is PostgreSQL. Tests kill
# processes and count what survived; only chaos takes the power away, so only there must PostgreSQL, and what tests write,
# wait for the disk. The compiler's files stay on the disk: they are the largest, and nobody waits for them to be there.
on_postgres() {
  local url status=0 with=()
  if [ "${POSTGRES_FSYNC:-off}" = on ]; then
    place=$(mktemp -d /tmp/qrjump-tests.XXXXXX)
    chmod 711 "$place"
  else
    a_place
  fi
  if scripts/postgres.sh bin >/dev/null 2>&1; then
    postgres=$place/postgres
    url=$(POSTGRES_FSYNC=${POSTGRES_FSYNC:-off} scripts/postgres.sh start "$postgres")
    with=("TEST_POSTGRES=$url" QRJUMP_REQUIRE_POSTGRES=1)
  fi
  ! here chromium || with+=(QRJUMP_REQUIRE_CHROMIUM=1)
  mkdir -m 711 "$place/tmp"
  run env "GOTMPDIR=${GOTMPDIR:-${TMPDIR:-/tmp}}" "TMPDIR=$place/tmp" "${with[@]}" "$@" || status=$?
  [ -z "$postgres" ] || end_postgres
  rm -rf "$place" || { sleep 1 && rm -rf "$place"; } # a browser may still be going away
  place=
  return "$status"
}

here() { command -v "$1" >/dev/null; }

# gotest is go test with a line a package, each failed test's output where it failed, and a record for the summary.
gotest=(go tool -modfile=tools.mod gotestsum --format pkgname-and-test-fails --hide-summary skipped)

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
  deps) run scripts/install-test-deps.sh "$wanted" "$report/missing" ;;
  format | lint) run make --no-print-directory "$1" ;;
  chaos) POSTGRES_FSYNC=on on_postgres env TEST_WHOLE=1 go test -count=1 -v -timeout 24h ./chaos ;; # bounded by CHAOS_MINUTES
  # With all of vet: it reads what the tests compile anyway. The later stages need not repeat it.
  tests) on_postgres "${gotest[@]}" --jsonfile "$report/tests.json" -- -p "$(($(nproc) + 2))" -vet=all "${test_flags[@]}" "${test_packages[@]}" ;;
  # The tests that the stage before plays a part of, and those that it leaves out.
  whole)
    local packages
    packages=$(go list -f '{{range .TestImports}}{{println . $.ImportPath}}{{end}}{{range .XTestImports}}{{println . $.ImportPath}}{{end}}' ./... |
      awk '$1 == "github.com/qrjump/qrjump/internal/testkit/testscope" { print $2 }' | sort -u)
    # shellcheck disable=SC2086 # a list of words
    on_postgres env TEST_WHOLE=1 "${gotest[@]}" --jsonfile "$report/whole.json" -- -vet=off -p "$(($(nproc) + 1))" "${test_flags[@]}" $packages
    ;;
  # Short: tables and simulations prove nothing more here. SQLite is C in Go's clothes with locks of its own: watching
  # its memory costs four fifths of the time and looks at none of our code.
  race)
    if ! echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1; then
      echo "the race detector needs a C compiler (gcc, libc6-dev): nothing was watched" | tee -a "$report/missing"
      return 0
    fi
    local watched=(env CGO_ENABLED=1 "${gotest[@]}" -- -vet=off -race -short -gcflags=modernc.org/sqlite/lib=-race=false
      -gcflags=modernc.org/libc=-race=false "${test_flags[@]}")
    on_postgres "${watched[@]}" "${race_packages[@]}"
    [ ${#race_parts[@]} != 0 ] || return 0
    local tests
    tests=$(concurrent "${race_parts[@]}")
    on_postgres "${watched[@]}" -run "$tests" "${race_parts[@]}"
    ;;
  fuzz) run scripts/fuzz.sh "${FUZZTIME:-20s}" ;; # what it found before runs as tests
  mutants) # shellcheck disable=SC2086 # a list of words
    on_postgres go -C bench run ./cmd/mutants -dir "${MUTANTS_DIR:-/tmp/qrjump-mutants}" ${MUTANTS_FLAGS-} ;;
  compat) run compat/run.sh ;;
  codes) run scripts/demo-codes.sh ;;
  *) echo "no stage $1; there are: ${everyday[*]} ${rest[*]} chaos fuzz mutants" >&2; return 2 ;;
  esac
}

case "$# ${1-}" in
0*) set -- "${everyday[@]}" ;;
'1 rest') set -- "${rest[@]}" ;;
esac
wanted=tests # by the stages that follow, of what may be installed
case " $* " in *' whole '* | *' race '* | *' compat '*) wanted=all ;; esac
for stage; do
  printf '\n== stage: %s\n' "$stage"
  look
  began=$SECONDS used=$spent
  run_stage "$stage"
  ended
done
stage=
