#!/usr/bin/env bash
# A private PostgreSQL server for tests: its own directory, its own port, a random password.
#
#   scripts/postgres.sh start DIR   create a server in DIR and print its postgres:// URL (one line); with
#                                   POSTGRES_FSYNC=off its data survives kill -9, but not a power failure
#   scripts/postgres.sh stop DIR    stop it and remove DIR
#   scripts/postgres.sh bin         print the directory of the PostgreSQL programs
#
# For tests of failures:
#
#   scripts/postgres.sh replica DIR OF   make DIR the synchronous replica of the server in OF and print its URL. The
#                                        data in DIR is replaced, its port is kept. From then on OF acknowledges a
#                                        commit only when DIR has it; the command returns when replication is synchronous
#   scripts/postgres.sh promote DIR      make a replica the primary
#   scripts/postgres.sh kill DIR         kill -9 of all its processes
#   scripts/postgres.sh again DIR        restart a killed server with its data
#
# Starting a running server prints its URL again; stopping a stopped server is no error.
set -euo pipefail

oldest=15
marker=.qrjump-postgres

fail() { printf 'postgres.sh: %s\n' "$*" >&2; exit 1; }

# programs prints the directory of the newest PostgreSQL that can create a database:
# a client package alone, or an initdb script with a broken link, is ignored.
programs() {
  local dir major best='' best_major=0
  for dir in /usr/lib/postgresql/*/bin \
    "$(dirname "$(readlink -f "$(command -v initdb || echo /nowhere/initdb)")")" \
    "$(pg_config --bindir 2>/dev/null || true)"; do
    [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && [ -x "$dir/postgres" ] || continue
    "$dir/initdb" --version >/dev/null 2>&1 || continue
    major=$("$dir/postgres" --version 2>/dev/null | sed -nE 's/^postgres \(PostgreSQL\) ([0-9]+).*/\1/p')
    if [ "${major:-0}" -ge "$oldest" ] && [ "$major" -gt "$best_major" ]; then
      best=$dir best_major=$major
    fi
  done
  [ -n "$best" ] || fail "no PostgreSQL $oldest or later found"
  printf '%s\n' "$best"
}

# server runs a program as the server's user, without the caller's environment (PGDATA, PGPORT, LANG),
# directory and open files.
server() {
  local as=()
  if [ "$(id -u)" = 0 ]; then
    as=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
  fi
  (cd / && exec env -i "PATH=$PATH" LC_ALL=C "${as[@]}" "$@" </dev/null 9>&-)
}

# running reports whether the server runs. It also checks the process state: in a container whose init does not reap
# zombies, pg_ctl takes a killed server for a running one.
running() {
  local pid
  pid=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null) || return 1
  ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null || return 1
  server "$bin/pg_ctl" status -D "$dir/data" >/dev/null 2>&1
}

halt() {
  running || return 0
  server "$bin/pg_ctl" stop -s -D "$dir/data" -m fast -t 30 >&2 ||
    server "$bin/pg_ctl" stop -s -D "$dir/data" -m immediate -t 180 >&2
}

# discard undoes an interrupted or failed start.
discard() {
  local status=$?
  trap '' INT TERM HUP
  [ "$status" = 0 ] || { halt || true; rm -rf "$dir"; }
  exit "$status"
}

start() {
  local password port socket
  [ ! -e "$dir" ] || [ -d "$dir" ] || fail "$dir is not a directory"
  mkdir -p "$dir"
  exec 9<"$dir" && flock 9 # a concurrent start of the same DIR waits, and then finds it running
  if [ -e "$dir/$marker" ]; then
    if [ -s "$dir/url" ] && running; then
      cat "$dir/url"
      return
    fi
    halt # left behind by a crash
    rm -rf "$dir"
  elif [ -n "$(ls -A "$dir")" ]; then
    fail "$dir is not empty and was not created by this script"
  fi

  trap discard EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  mkdir -p "$dir"
  chmod 700 "$dir"
  : >"$dir/$marker"
  [ "$(id -u)" != 0 ] || chown "$user" "$dir" "$dir/$marker"
  server test -w "$dir" || fail "user $user cannot reach $dir: choose a directory under /tmp"

  # Text is sorted by language, as in most installations, and not by bytes as in SQLite:
  # code that relies on the order of texts fails in the tests instead of in production.
  password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  (umask 077 && printf '%s\n' "$password" >"$dir/password")
  [ "$(id -u)" != 0 ] || chown "$user" "$dir/password"
  # The password is random: thousands of hash iterations for each of thousands of sessions would only take time.
  local auth=(--auth=md5)
  [ "$("$bin/postgres" --version | sed -nE 's/^postgres \(PostgreSQL\) ([0-9]+).*/\1/p')" -lt 16 ] ||
    auth=(--auth=scram-sha-256 --set=scram_iterations=1)
  server "$bin/initdb" -D "$dir/data" -U qrjump "${auth[@]}" --pwfile="$dir/password" \
    --encoding=UTF8 --locale=C --locale-provider=icu --icu-locale=en-US \
    --no-sync --no-instructions >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; fail "initdb failed"; }
  rm "$dir/password"

  # The kernel rejects socket paths over 107 bytes; TCP is sufficient.
  socket=$dir
  if [ "$(printf %s "$dir/.s.PGSQL.65535.lock" | wc -c)" -gt 107 ] || [[ $dir == *[\'\",\\]* ]]; then
    socket=
  fi
  cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$socket'
max_connections = 500 # packages are tested concurrently, with several nodes each
fsync = ${POSTGRES_FSYNC:-on}
autovacuum = ${POSTGRES_FSYNC:-on} # the database of a test exists only for seconds
wal_keep_size = 64MB # for a replica that is being created
synchronous_commit = on
full_page_writes = ${POSTGRES_FSYNC:-on} # without power failures no page is written in part
CONF

  # Below the ephemeral ports. Only binding a port shows whether it is free.
  for _ in {1..20}; do
    port=$((20000 + RANDOM % 12000))
    if up "$port"; then
      (umask 077 && printf 'postgres://qrjump:%s@127.0.0.1:%s/postgres?sslmode=disable\n' "$password" "$port" >"$dir/url.new")
      mv "$dir/url.new" "$dir/url"
      cat "$dir/url"
      return
    fi
    grep -q 'could not bind' "$dir/log" 2>/dev/null || break
  done
  tail -n 20 "$dir/log" >&2 || true
  fail "PostgreSQL did not start"
}

# up starts the server on a port.
up() {
  rm -f "$dir/log"
  server "$bin/pg_ctl" start -s -w -t 600 -D "$dir/data" -l "$dir/log" -o "-p $1" >/dev/null 2>&1
}

# the password and the port in the URL of the server in $1
password_of() { sed -E 's|^[^:]*://[^:]*:([^@]*)@.*|\1|' "$1/url"; }
port_of() { sed -E 's|.*@[^/]*:([0-9]+)/.*|\1|' "$1/url"; }

ask() { PGPASSWORD=$(password_of "$1") "$bin/psql" -XAtq -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$(port_of "$1")" -U qrjump -d postgres -c "$2"; }

replica() {
  local port ports password
  [ -s "$of/url" ] && [ -e "$of/$marker" ] || fail "$of was not created by this script"
  password=$(password_of "$of")
  if [ -e "$dir/$marker" ]; then
    halt
    ports=$(port_of "$dir")
  else
    [ -z "$(ls -A "$dir" 2>/dev/null)" ] || fail "$dir is not empty and was not created by this script"
    ports=$(for _ in {1..20}; do echo $((20000 + RANDOM % 12000)); done)
  fi
  trap discard EXIT
  rm -rf "$dir"
  mkdir -p "$dir"
  chmod 700 "$dir"
  : >"$dir/$marker"
  [ "$(id -u)" != 0 ] || chown "$user" "$dir" "$dir/$marker"
  server env "PGPASSWORD=$password" "$bin/pg_basebackup" -h 127.0.0.1 -p "$(port_of "$of")" -U qrjump -D "$dir/data" \
    -R -c fast -X stream --no-sync >"$dir/basebackup.log" 2>&1 || { cat "$dir/basebackup.log" >&2; fail "pg_basebackup of $of failed"; }
  sed -i "s|^unix_socket_directories = .*|unix_socket_directories = ''|" "$dir/data/postgresql.conf"
  for port in $ports; do
    (umask 077 && printf 'postgres://qrjump:%s@127.0.0.1:%s/postgres?sslmode=disable\n' "$password" "$port" >"$dir/url")
    up "$port" && break
    grep -q 'could not bind' "$dir/log" 2>/dev/null && [ "$port" != "${ports##*$'\n'}" ] ||
      { tail -n 20 "$dir/log" >&2; fail "the replica did not start"; }
  done
  ask "$of" "ALTER SYSTEM SET synchronous_standby_names = '*'"
  ask "$of" "SELECT pg_reload_conf()" >/dev/null
  for _ in {1..2400}; do
    if [ "$(ask "$of" "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND current_setting('synchronous_standby_names') = '*'")" = 1 ]; then
      cat "$dir/url"
      return
    fi
    sleep 0.05
  done
  tail -n 20 "$dir/log" >&2
  fail "$dir did not become a synchronous replica"
}

promote() {
  server "$bin/pg_ctl" promote -s -w -t 600 -D "$dir/data" >&2
}

# ended PID... reports whether all these processes have exited or are zombies.
ended() {
  local pid
  for pid; do
    [ ! -e "/proc/$pid" ] || grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null || return 1
  done
}

# killed kills all processes. The postmaster is stopped first, so that it cannot start new processes.
killed() {
  local pid children
  pid=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null) || return 0
  kill -STOP "$pid" 2>/dev/null || return 0
  # cat continues if a process has just exited; mawk would not read the rest.
  children=$(cat /proc/[0-9]*/stat 2>/dev/null | sed -n "s/^\([0-9]*\) (.*) [A-Za-z] $pid .*/\1/p" || true)
  # shellcheck disable=SC2086 # a list
  kill -KILL "$pid" $children 2>/dev/null || true
  for _ in {1..6000}; do # a process that writes to a slow disk exits only after the write
    # shellcheck disable=SC2086 # a list
    ! ended "$pid" $children || return 0
    sleep 0.02
  done
  fail "the server in $dir does not exit"
}

again() {
  ! running || return 0
  rm -f "$dir/data/postmaster.pid" "$dir"/.s.PGSQL.* # its process may be a zombie
  up "$(port_of "$dir")" || { tail -n 20 "$dir/log" >&2; fail "PostgreSQL did not start again"; }
}

stop() {
  [ -e "$dir" ] || return 0
  [ -e "$dir/$marker" ] || { rmdir "$dir" 2>/dev/null || fail "$dir was not created by this script"; return 0; }
  halt
  rm -rf "$dir"
}

case "${1-} $#" in
'bin 1') programs ;;
'start 2' | 'stop 2' | 'replica 3' | 'promote 2' | 'kill 2' | 'again 2')
  [ -n "$2" ] || fail "no directory given"
  of=$(realpath -m -- "${3-$2}")
  dir=$(realpath -m -- "$2")
  user=$(id -un 2>/dev/null || id -u)
  if [ "$(id -u)" = 0 ]; then
    # PostgreSQL refuses to run as root.
    user=postgres
    id postgres >/dev/null 2>&1 || user=nobody
  fi
  if [ "$1" = stop ] && [ ! -e "$dir" ]; then exit 0; fi
  bin=$(programs)
  verb=$1
  [ "$verb" != kill ] || verb=killed
  "$verb"
  ;;
*) fail "usage: postgres.sh start DIR | stop DIR | bin | replica DIR OF | promote DIR | kill DIR | again DIR" ;;
esac
