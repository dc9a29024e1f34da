#!/usr/bin/env bash
# Runs the tests in stages. It stops at the first stage that fails, and always prints a summary.
#
#   scripts/test.sh                  make test: deps format tests
#   scripts/test.sh rest             what make test-all adds to it: deps lint whole race compat codes
#   scripts/test.sh format race      the given stages
#   scripts/test.sh chaos            chaos/ for CHAOS_MINUTES; neither it, fuzz nor mutants is in make test-all
#
# Tests that need a program which is missing and cannot be installed are skipped, and the summary lists the programs.
# Variables: TEST_FLAGS, TEST_PACKAGES, RACE_PACKAGES, RACE_PARTS, DEMO_CODES and FUZZTIME.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v go >/dev/null || { echo "install Go first: https://go.dev/dl" >&2; exit 1; }

everyday=(deps format tests)
rest=(deps lint whole race compat codes)
read -ra race_packages <<<"${RACE_PACKAGES:-./internal/domain/index ./internal/domain/replica ./internal/domain/scan ./internal/domain/apiusage ./internal/emulator ./internal/edge/consent ./internal/domain/webhooks ./internal/eventlog/scanlog ./internal/eventlog/stream ./internal/edge/scanapi ./internal/edge/fastpath ./internal/domain/iam}"
# of these packages only the tests that start goroutines: the others are sequential and take most of the time
read -ra race_parts <<<"${RACE_PARTS-./internal/store ./internal/domain/stats ./internal/domain/stats/verify ./internal/domain/alarms ./internal/domain/accounts ./internal/edge/api ./internal/edge/console}"
# The packages with the longest tests start first, so that none of them runs alone at the end. client is a separate module, which ./...
# does not include.
read -ra test_packages <<<"${TEST_PACKAGES:-./chaos ./cmd/qrjump ./internal/server ./internal/store ./internal/edge/console ./internal/domain/stats ./internal/edge/api ./... github.com/qrjump/qrjump/client}"
read -ra test_flags <<<"${TEST_FLAGS:--count=1 -timeout 60m}"

# The compiler and short-lived test servers have small heaps, for which Go runs the garbage collector very often: it took up
# to a quarter of the processor time of a test, and a fifth of that of the compiler.
export GOGC=${GOGC:-400}
# Debug information is not used here, and generating it takes a tenth of the time of the compiler.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-gcflags=all=-dwarf=false"
# As in releases; a static program also starts faster.
export CGO_ENABLED=${CGO_ENABLED:-0}

child=
work_dir=
postgres=
stage=
database=0 # processor time of stopped PostgreSQL servers, in hundredths of a second
report=$(mktemp -d "${TMPDIR:-/tmp}/qrjump-report.XXXXXX")
summary=()

# run executes a command in a new session and waits for it, so that a signal to this script takes effect
# immediately and reaches all processes of the command. (A background command ignores Ctrl-C unless env
# restores the default.)
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
  [ -z "$postgres" ] || stop_postgres
  [ -z "$work_dir" ] || rm -rf "$work_dir"
  [ -z "$stage" ] || finish_stage FAILED
  printf '\n== summary (load %s)\n' "$(cut -d' ' -f1-3 /proc/loadavg 2>/dev/null || echo unknown)"
  printf '   %s\n' "${summary[@]}"
  if ls "$report"/*.json >/dev/null 2>&1; then
    printf '   the slowest tests:\n'
    go tool -modfile=tools.mod gotestsum tool slowest --num 10 --jsonfile <(cat "$report"/*.json) 2>/dev/null |
      sed 's|github.com/qrjump/qrjump/||; s/^/     /'
    awk -f scripts/left-out.awk "$report"/*.json
  fi
  [ ! -s "$report/missing" ] || sed 's/^/   missing: /' "$report/missing"
  rm -rf "$report"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# measure_cpu sets spent to the processor time, in hundredths of a second, of all processes that this script has waited
# for, and of PostgreSQL. It must not run in a subshell, which has no such processes.
measure_cpu() {
  times >"$report/times"
  spent=$(awk 'NR == 2 { gsub(/[ms]/, " "); print int(($1 * 60 + $2 + $3 * 60 + $4) * 100) }' "$report/times")
  spent=$((spent + database))
}

finish_stage() {
  measure_cpu
  summary+=("$(printf '%-8s %5d s, %5d s of processor time  %s' "$stage" $((SECONDS - began)) $(((spent - used) / 100)) "${1-}")")
}

# make_work_dir creates the directory for the files of tests: in memory if there is enough of it, else on disk. Tests create and
# drop a thousand databases; on a disk, the kernel's work for their files is a third of the total time.
make_work_dir() {
  local memory=/dev/shm free_there free_memory
  free_there=$(df -Pk "$memory" 2>/dev/null | awk 'NR == 2 {print $4}')
  free_memory=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo 2>/dev/null)
  if [ "${free_there:-0}" -gt 6000000 ] && [ "${free_memory:-0}" -gt 10000000 ]; then
    work_dir=$(mktemp -d "$memory/qrjump-tests.XXXXXX")
    printf '#!/bin/sh\n' >"$work_dir/runs"
    chmod 711 "$work_dir" # PostgreSQL runs as another user
    chmod 755 "$work_dir/runs"
    if "$work_dir/runs" 2>/dev/null; then return; fi # some containers mount /dev/shm without exec
    rm -rf "$work_dir"
  fi
  work_dir=$(mktemp -d "${TMPDIR:-/tmp}/qrjump-tests.XXXXXX")
  chmod 711 "$work_dir"
}

# stop_postgres stops the server after adding its processor time, with that of ended sessions, to database.
stop_postgres() {
  local pid
  if pid=$(head -n 1 "$postgres/data/postmaster.pid" 2>/dev/null); then
    database=$((database + $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | awk '{ n = $12 + $13 + $14 + $15 } END { print n + 0 }')))
  fi
  scripts/postgres.sh stop "$postgres"
  postgres=
}

# on_postgres runs a command with the URL of a new PostgreSQL server in TEST_POSTGRES, if PostgreSQL is installed. Only the
# stage chaos needs fsync: the other stages kill processes, but do not simulate power failures. The compiler's files stay on
# disk: they are large and are not synced.
on_postgres() {
  local url status=0 with=()
  if [ "${POSTGRES_FSYNC:-off}" = on ]; then
    work_dir=$(mktemp -d /tmp/qrjump-tests.XXXXXX)
    chmod 711 "$work_dir"
  else
    make_work_dir
  fi
  if scripts/postgres.sh bin >/dev/null 2>&1; then
    postgres=$work_dir/postgres
    url=$(POSTGRES_FSYNC=${POSTGRES_FSYNC:-off} scripts/postgres.sh start "$postgres")
    with=("TEST_POSTGRES=$url" QRJUMP_REQUIRE_POSTGRES=1)
  fi
  ! has chromium || with+=(QRJUMP_REQUIRE_CHROMIUM=1)
  mkdir -m 711 "$work_dir/tmp"
  run env "GOTMPDIR=${GOTMPDIR:-${TMPDIR:-/tmp}}" "TMPDIR=$work_dir/tmp" "${with[@]}" "$@" || status=$?
  [ -z "$postgres" ] || stop_postgres
  rm -rf "$work_dir" || { sleep 1 && rm -rf "$work_dir"; } # a browser may still be exiting
  work_dir=
  return "$status"
}

has() { command -v "$1" >/dev/null; }

# gotest is go test with one line per package, the output of failed tests, and a record for the summary.
gotest=(go tool -modfile=tools.mod gotestsum --format pkgname-and-test-fails --hide-summary skipped)

# concurrent prints a pattern of the tests in the given packages that start goroutines. It fails if there are none.
concurrent() {
  local names
  # shellcheck disable=SC2068 # file patterns
  names=$(awk -f scripts/concurrent-tests.awk ${@/%//*_test.go} | paste -sd'|')
  [ -n "$names" ] || { echo "no test of $* starts goroutines: see scripts/concurrent-tests.awk" >&2; return 1; }
  echo "^($names)\$"
}

run_stage() {
  case $1 in
  deps) run scripts/install-test-deps.sh "$wanted" "$report/missing" ;;
  format | lint) run make --no-print-directory "$1" ;;
  chaos) POSTGRES_FSYNC=on on_postgres env TEST_WHOLE=1 go test -count=1 -v -timeout 24h ./chaos ;; # limited by CHAOS_MINUTES
  # The stage lint and make check run vet.
  tests) on_postgres "${gotest[@]}" --jsonfile "$report/tests.json" -- -p "$(($(nproc) + 2))" -vet=off "${test_flags[@]}" "${test_packages[@]}" ;;
  # The packages with tests that the stage tests runs in part or skips.
  whole)
    local packages
    packages=$(go list -f '{{range .TestImports}}{{println . $.ImportPath}}{{end}}{{range .XTestImports}}{{println . $.ImportPath}}{{end}}' ./... |
      awk '$1 == "github.com/qrjump/qrjump/internal/testkit/testscope" { print $2 }' | sort -u)
    # shellcheck disable=SC2086 # a list of words
    on_postgres env TEST_WHOLE=1 "${gotest[@]}" --jsonfile "$report/whole.json" -- -vet=off -p "$(($(nproc) + 1))" "${test_flags[@]}" $packages
    ;;
  # Short: long tables and simulations find no additional races. SQLite is translated C code with its own locks: instrumenting it takes
  # four fifths of the time and covers none of this project's code.
  race)
    if ! echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1; then
      echo "the race detector needs a C compiler (gcc, libc6-dev): no test ran" | tee -a "$report/missing"
      return 0
    fi
    local race_test=(env CGO_ENABLED=1 "${gotest[@]}" -- -vet=off -race -short -gcflags=modernc.org/sqlite/lib=-race=false
      -gcflags=modernc.org/libc=-race=false "${test_flags[@]}")
    on_postgres "${race_test[@]}" "${race_packages[@]}"
    [ ${#race_parts[@]} != 0 ] || return 0
    local tests
    tests=$(concurrent "${race_parts[@]}")
    on_postgres "${race_test[@]}" -run "$tests" "${race_parts[@]}"
    ;;
  fuzz) run scripts/fuzz.sh "${FUZZTIME:-20s}" ;; # earlier findings are test cases
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
wanted=tests # the packages that the stages need
case " $* " in *' whole '* | *' race '* | *' compat '*) wanted=all ;; esac
for stage; do
  printf '\n== stage: %s\n' "$stage"
  measure_cpu
  began=$SECONDS used=$spent
  run_stage "$stage"
  finish_stage
done
stage=
