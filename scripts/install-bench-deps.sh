#!/usr/bin/env bash
# Installs the missing programs that make bench requires: HAProxy, nginx, wrk, PostgreSQL. For Debian and Ubuntu.
# It starts no service; the benchmark starts and stops its own processes.
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
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
# Packages must not start services, whose ports may be in use.
policy=/usr/sbin/policy-rc.d
created=
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod +x "$policy"
  created=1
fi
trap '[ -z "$created" ] || "${sudo[@]}" rm -f "$policy"' EXIT
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
