#!/usr/bin/env bash
# Reads the image with skopeo, unpacks it with umoci, and runs the program of its layer as the image's user in a chroot.
# It needs root, but no container engine.
#
#   release/image-story.sh dist/qrjump-0.1.0.oci.tar
set -euo pipefail
image=$(realpath "${1:?name the image}")
unset "${!QRJUMP_@}"
work=$(mktemp -d)
pid=
finish() {
  [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
want() { eval "$1" || { echo "not so: $1" >&2; exit 1; }; }

chroot=$(command -v chroot || echo /usr/sbin/chroot)
mkdir "$work/image"
tar -xf "$image" -C "$work/image"
for arch in amd64 arm64; do
  grep -rqs "\"architecture\":\"$arch\"" "$work/image/blobs" || continue
  skopeo --override-arch "$arch" inspect --config "oci:$work/image" >"$work/config"
  want 'grep -q "\"User\":\"65532:65532\"" "$work/config" || grep -q "\"User\": \"65532:65532\"" "$work/config"'
  echo "$arch: $(skopeo --override-arch "$arch" inspect --format '{{.Digest}} {{.Architecture}} {{index .Labels "org.opencontainers.image.version"}}' "oci:$work/image")"
done
# One architecture of the index, as a container engine pulls it; umoci unpacks only tagged images.
skopeo --override-arch amd64 copy -q "oci:$work/image" "oci:$work/one:here"
umoci unpack --image "$work/one:here" "$work/bundle"
root=$work/bundle/rootfs
chmod 755 "$work" "$work/bundle" "$root"
want '[ "$(stat -c %u:%a "$root/var/lib/qrjump")" = 65532:700 ]'
want '[ -s "$root/etc/ssl/certs/ca-certificates.crt" ]'
inside() { env -i QRJUMP_DATA=/var/lib/qrjump QRJUMP_LISTEN=127.0.0.1:0 "$chroot" --userspec=65532:65532 "$root" /usr/bin/qrjump "$@"; }
inside version
mkfifo "$work/ready"
env -i QRJUMP_DATA=/var/lib/qrjump QRJUMP_LISTEN=127.0.0.1:0 QRJUMP_SHUTDOWN_DELAY=0s \
  "$chroot" --userspec=65532:65532 "$root" /usr/bin/qrjump serve >"$work/ready" 2>"$work/log" &
pid=$!
read -r -t 60 line <"$work/ready" || true
[[ ${line:-} == "qrjump ready "* ]] || { cat "$work/log"; echo "not ready" >&2; exit 1; }
inside health # the image's health check
kill -TERM "$pid"
wait "$pid"
pid=
want '! inside health >/dev/null 2>&1'
echo "the image holds what it says"
