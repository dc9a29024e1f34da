#!/usr/bin/env bash
# Installs the distribution's packages that the tests need and that are not here yet.
# With everything in place it says nothing and changes nothing.
#
#   scripts/install-test-deps.sh          what all tests need
#   scripts/install-test-deps.sh codes    what scripts/demo-codes.sh needs
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-all}

# needs PROGRAM PACKAGE prints the package of a program that is not here.
needs() { command -v "$1" >/dev/null || echo "$2"; }

codes() {
  needs curl curl
  needs openssl openssl
  needs dmtxread dmtx-utils
  needs qrencode qrencode
  needs zbarimg zbar-tools
}

missing() {
  codes
  [ "$what" = all ] || return 0
  scripts/postgres.sh bin >/dev/null 2>&1 || echo postgresql
  # go test -race links with C; the headers are a package of their own
  echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1 || echo gcc libc6-dev
  needs node nodejs
  # the pages are looked at in a real browser, in Chinese too
  needs chromium chromium
  # sheets of labels and single ones are rendered, and read again
  needs pdftoppm poppler-utils
  needs rsvg-convert librsvg2-bin
  needs fc-list fontconfig
  [ -n "$(fc-list :lang=zh 2>/dev/null)" ] || echo fonts-wqy-microhei
  needs npm npm
  # a printer's package is opened and checked by programs that are not ours
  needs age age
  needs ssh-keygen openssh-client
  # completion is played in each shell, and the man pages are read by what prints them
  needs zsh zsh
  needs fish fish
  needs mandoc mandoc
  # what guards the checks of packages, of deploy/ and of files that other programs serve or read
  needs nginx nginx-light
  needs promtool prometheus
  needs systemd-analyze systemd
  needs strace strace
  needs age age
  needs ssh-keygen openssh-client
  # a program with a network of its own
  needs ip iproute2
}

packages=$(missing | xargs)
[ -n "$packages" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "install these packages first: $packages" >&2
  exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5)
# A machine that has just started may be updating its package lists by itself, and there is no waiting for that lock.
for pause in 5 20 60 0; do
  ! "${apt[@]}" -o APT::Update::Error-Mode=any update || break
  [ "$pause" != 0 ] || echo "apt-get update failed; trying with the package lists that are here" >&2
  sleep "$pause"
done
# Programs are wanted, no service: none is started now, and none of these at the next boot.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
# shellcheck disable=SC2086 # a list of words
"${apt[@]}" install --no-install-recommends $packages
for service in nginx prometheus postgresql; do
  case " $packages " in
    *" $service"*) ! command -v systemctl >/dev/null || systemctl disable --quiet "$service" >&2 || true ;;
  esac
done

packages=$(missing | xargs)
[ -z "$packages" ] || { echo "still missing after the installation: $packages" >&2; exit 1; }
