#!/usr/bin/env bash
# The peers that make bench measures against, where they are missing: HAProxy, nginx, wrk, PostgreSQL.
# Debian and Ubuntu. Starts no service; the bench starts and stops its own processes.
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing+=("$2"); }
need haproxy haproxy
need nginx nginx-light
need wrk wrk
"$(dirname "$0")/postgres.sh" bin >/dev/null 2>&1 || missing+=(postgresql)
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null 2>&1 || {
  printf 'install-bench-deps.sh: missing: %s; install them with the package manager of this system\n' "${missing[*]}" >&2
  exit 1
}
as=()
[ "$(id -u)" = 0 ] || as=(sudo)
# A package must not start its service: the ports are somebody else's.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as[@]}" tee "$policy" >/dev/null
  "${as[@]}" chmod +x "$policy"
  made=1
fi
trap '[ -z "$made" ] || "${as[@]}" rm -f "$policy"' EXIT
"${as[@]}" apt-get update -qq
"${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
