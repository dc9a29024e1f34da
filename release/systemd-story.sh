#!/usr/bin/env bash
# Tests the life cycle of a Debian package (deb-story.sh) in a Debian container with systemd: the service runs in the
# sandbox of its unit. It needs root, debootstrap and systemd-container, but no container engine. It removes the container.
#
#   release/systemd-story.sh dist/qrjump_0.1.0-1_amd64.deb
#
# ROOT keeps the container for the next run, MIRROR sets a mirror of Debian.
set -euo pipefail
deb=$(realpath "${1:?name the package}")
[ "$(id -u)" = 0 ] || { echo "only root starts systems" >&2; exit 2; }
for needed in debootstrap systemd-nspawn; do
  command -v "$needed" >/dev/null || { echo "install $needed first (packages debootstrap and systemd-container)" >&2; exit 2; }
done
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d /var/tmp/qrjump-systemd.XXXXXX)
root=${ROOT:-$work/root}
trap 'rm -rf "$work"' EXIT

if [ ! -x "$root/lib/systemd/systemd" ]; then
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,curl,procps bookworm "$root" \
    "${MIRROR:-http://deb.debian.org/debian}" >"$work/log" || { tail -n 5 "$work/log" >&2; exit 1; }
fi

rm -rf "$root/story"
install -D -m 644 "$deb" "$root/story/qrjump.deb"
install -m 755 "$here/deb-story.sh" "$root/story/deb-story.sh"
cat >"$root/story/play" <<'PLAY'
#!/bin/sh
systemctl is-system-running --wait >/story/system # without a network the state can be "degraded", which is accepted
cd /story && DISPOSABLE=yes ./deb-story.sh qrjump.deb >/story/said 2>&1
echo $? >/story/status
journalctl --no-pager -u qrjump >/story/journal
poweroff
PLAY
chmod 755 "$root/story/play"
cat >"$root/etc/systemd/system/story.service" <<'UNIT'
[Service]
Type=exec
ExecStart=/story/play
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../story.service "$root/etc/systemd/system/multi-user.target.wants/story.service"

# A private network with only the loopback interface.
timeout 900 systemd-nspawn --quiet -D "$root" --boot --register=no --keep-unit --private-network </dev/null >"$work/console" 2>&1 ||
  { tail -n 20 "$work/console" >&2; echo "the system did not end well" >&2; exit 1; }
cat "$root/story/said"
[ "$(cat "$root/story/status" 2>/dev/null)" = 0 ] || { tail -n 40 "$root/story/journal" >&2; exit 1; }
echo "== by $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' "$root/etc/os-release") and $("$root/usr/bin/systemctl" --version | head -n 1)"
