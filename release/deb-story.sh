#!/usr/bin/env bash
# Tests the life cycle of a Debian package on this machine: install, configure, start, apply for codes, stop, remove, install
# again, purge. It changes the machine, so it requires a disposable one and DISPOSABLE=yes.
#
#   DISPOSABLE=yes release/deb-story.sh dist/qrjump_0.1.0-1_amd64.deb
#
# With systemd, the unit is started. Without systemd, the unit's ExecStart runs as the unit's user with only that user's
# permissions; then the sandbox of the unit is not tested, only its system calls are (if strace is installed).
set -euo pipefail
deb=$(realpath "${1:?name the package}")
[ "${DISPOSABLE:-}" = yes ] || { echo "this installs and purges qrjump on this machine: say DISPOSABLE=yes" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "only root installs packages" >&2; exit 2; }
for taken in /usr/bin/qrjump /etc/qrjump /var/lib/qrjump; do
  [ ! -e "$taken" ] || { echo "$taken is here already: this is no machine for a story" >&2; exit 2; }
done
unset "${!QRJUMP_@}"
work=$(mktemp -d)
pid=
finish() {
  status=$?
  [ -z "$pid" ] || { pkill -9 -P "$pid" || true; kill -9 "$pid" || true; } 2>/dev/null
  [ "$status" = 0 ] || { tail -n 20 "$work/log" 2>/dev/null || true; echo "FAILED: ${doing:-}" >&2; dpkg --purge qrjump >/dev/null 2>&1 || true; }
  rm -rf "$work"
}
trap finish EXIT

step() { doing=$1; echo "== $1"; }
# grep -q closes its pipe at the first matching line; this is not an error of the program that writes to it
want() { (set +o pipefail && eval "$1") || { echo "not so: $1" >&2; exit 1; }; }
unit=/usr/lib/systemd/system/qrjump.service
of_unit() { sed -n "s/^$1=//p" "$unit" | tail -n 1; }
systemd() { [ -d /run/systemd/system ]; }

start() {
  if systemd; then systemctl start qrjump; return; fi
  rm -f "$work/ready"
  mkfifo "$work/ready"
  local tracing=()
  if command -v strace >/dev/null; then tracing=(strace -f -qq -c -S name -U name,calls -o "$work/trace/calls.$RANDOM"); fi
  # shellcheck disable=SC2046 # the words of ExecStart
  (cd "$(of_unit WorkingDirectory)" && umask "$(of_unit UMask)" && exec setpriv --reuid "$(of_unit User)" --regid "$(of_unit Group)" \
    --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all env -i PATH=/usr/bin:/bin "${tracing[@]}" $(of_unit ExecStart)) \
    >"$work/ready" 2>>"$work/log" &
  pid=$!
  local line=
  read -r -t 60 line <"$work/ready" || true
  [[ $line == "qrjump ready "* ]] || { echo "the server is not ready: $line" >&2; return 1; }
}

stop() {
  if systemd; then systemctl stop qrjump; return; fi
  local main=$pid status=0
  # strace does not forward signals: its child is the server.
  main=$(pgrep -P "$pid" -x qrjump 2>/dev/null || echo "$pid")
  kill -TERM "$main"
  wait "$pid" || status=$?
  pid=
  [ "$status" = 0 ] || { echo "the server ended with $status" >&2; return 1; }
}

step "install"
dpkg -i "$deb" >"$work/dpkg" 2>&1 || { cat "$work/dpkg"; exit 1; }
want 'getent passwd qrjump >/dev/null'
want '[ "$(stat -c %U:%a /var/lib/qrjump)" = qrjump:700 ]'
want 'dpkg-query -W -f "\${Conffiles}" qrjump | grep -q "/etc/qrjump/qrjump.yaml"'
want '[ -z "$(ls -A /var/lib/qrjump)" ]' # the server was not started
want 'qrjump version | grep -q "^qrjump [0-9]"'
if command -v man >/dev/null && [ -e /usr/share/man/man1/qrjump.1.gz ]; then want 'man -w qrjump-serve >/dev/null && [ -e /usr/share/man/zh_CN/man1/qrjump-serve.1.gz ]'; fi
if command -v systemd-analyze >/dev/null; then
  systemd-analyze --no-pager security --offline=true --threshold=20 "$unit" | tail -n 1
  want '! systemd-analyze verify "$unit" 2>&1 | grep -v "man " | grep -q qrjump'
fi

step "configure"
sed -i -e 's/^\([a-z-]*listen\): .*/\1: 127.0.0.1:0/' -e 's/^#code-prefix:/code-prefix:/' /etc/qrjump/qrjump.yaml

step "start"
chmod 711 "$work"
install -d -o qrjump "$work/trace"
start
want 'qrjump health --data /var/lib/qrjump | grep -q ready'

step "apply for codes"
export QRJUMP_DATA=/var/lib/qrjump
qrjump account set wxbrand --kind service_account --secret the-secret-of-the-brand --certified --feature +marketcode >/dev/null
applied=$(qrjump batch apply 10000 --isv first-order --appid wxbrand --secret the-secret-of-the-brand)
echo "$applied"
batch=$(grep -oE '[0-9]{9}' <<<"$applied" | head -n 1)
want 'qrjump batch show "$batch" --appid wxbrand --secret the-secret-of-the-brand | grep -q "^status *FINISH"'
want 'qrjump code show "$batch:9999" | grep -q "C.EXAMPLE/"'

step "stop"
stop
want '! qrjump health --data /var/lib/qrjump >/dev/null 2>&1'

step "remove keeps data and configuration"
dpkg -r qrjump >/dev/null
want '[ ! -e /usr/bin/qrjump ]'
want '[ -s /var/lib/qrjump/admin-token ]'
want 'grep -q "^code-prefix" /etc/qrjump/qrjump.yaml'

step "install again: what was changed stays, the codes are there"
dpkg -i "$deb" >/dev/null
want 'grep -q "^code-prefix" /etc/qrjump/qrjump.yaml'
start
want 'qrjump batch list | grep -q "$batch"'
step "upgrade while it runs"
dpkg -i "$deb" >/dev/null
want 'qrjump health --data /var/lib/qrjump | grep -q ready'
stop

if ls "$work"/trace/calls.* >/dev/null 2>&1 && command -v systemd-analyze >/dev/null; then
  step "every system call that was made is one that the unit allows"
  allowed() { systemd-analyze --no-pager syscall-filter "$1" | sed -n 's/^ *\([a-z0-9_@-]*\)$/\1/p' | grep -v '^$' | while read -r one; do
      case $one in "$1") ;; @*) allowed "$one" ;; *) echo "$one" ;; esac; done; }
  allowed @system-service | sort -u >"$work/allowed"
  { allowed @privileged; allowed @resources; } | sort -u >"$work/refused"
  awk 'NR > 2 && $1 ~ /^[a-z]/ && $1 != "total" && $1 != "syscall" {print $1}' "$work"/trace/calls.* | sort -u >"$work/made"
  want '[ "$(wc -l <"$work/made")" -gt 20 ]'
  want '[ "$(wc -l <"$work/allowed")" -gt 200 ] && [ "$(wc -l <"$work/refused")" -gt 20 ]'
  comm -23 "$work/made" "$work/allowed" >"$work/outside"
  comm -12 "$work/made" "$work/refused" >>"$work/outside"
  echo "$(wc -l <"$work/made") kinds of calls; the filter refuses: $(xargs <"$work/outside")"
  want '[ ! -s "$work/outside" ]'
fi

step "purge"
dpkg --purge qrjump >/dev/null 2>&1
want '[ ! -e /var/lib/qrjump ] && [ ! -e /etc/qrjump ]'
want '! getent passwd qrjump >/dev/null'
echo "the package lived and left nothing behind"
