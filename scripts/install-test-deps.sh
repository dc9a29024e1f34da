#!/usr/bin/env bash
# Installs the missing packages of the distribution that tests need, if this user may install packages and apt-get exists.
# If nothing is missing, it prints nothing and changes nothing.
#
#   scripts/install-test-deps.sh tests FILE   what make test uses
#   scripts/install-test-deps.sh all FILE     what make test-all uses as well
#   scripts/install-test-deps.sh codes        what scripts/demo-codes.sh requires
#
# Packages that are still missing are written to FILE, one per line; the tests that need them are skipped. Without FILE this is
# an error.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-tests} report=${2-}

# needs PROGRAM PACKAGE USE prints a line if the program is missing: the packages that contain it, and its use.
needs() { command -v "$1" >/dev/null || lacks "$2" "$3"; }
lacks() { printf '%s|%s\n' "$1" "$2"; }

codes() {
  needs curl curl "calls of the server by another client"
  needs openssl openssl "packages of codes decrypted by another program"
  needs dmtxread dmtx-utils "printed Data Matrix symbols read by another program"
  needs qrencode qrencode "QR codes compared with those of another program"
  needs zbarimg zbar-tools "printed QR codes read by another program"
}

tests() {
  codes
  scripts/postgres.sh bin >/dev/null 2>&1 || lacks postgresql "everything on PostgreSQL, 15 or later"
  needs chromium chromium "the pages in a real browser"
  needs pdftoppm poppler-utils "sheets of labels, rendered"
  needs gs ghostscript "symbols as EPS, rendered, and the plates of a press"
  needs qpdf qpdf "PDF files for a press, checked"
  needs rsvg-convert librsvg2-bin "symbols as SVG, rendered"
  needs fc-list fontconfig "Chinese texts on labels and pages"
  [ -n "$(fc-list :lang=zh 2>/dev/null)" ] || lacks fonts-wqy-microhei "Chinese texts on labels and pages"
  needs node nodejs "lines of the documents in JavaScript, and webhooks received by it"
  # these open and verify packages for printers independently of qrjump
  needs age age "packages for printers, opened by another program"
  needs ssh-keygen openssh-client "signatures of packages, checked by another program"
}

all() {
  tests
  # go test -race links with C; the headers are in a separate package
  echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1 || lacks 'gcc libc6-dev' "the race detector"
  needs npm npm "client libraries for Node.js"
  needs ruby ruby "programs in Ruby, redirected to the server"
  [ -f /usr/share/php/GuzzleHttp/autoload.php ] && [ -f /usr/share/php/Psr/SimpleCache/autoload.php ] && command -v php >/dev/null ||
    lacks "php-cli php-curl php-xml php-guzzlehttp-guzzle php-nyholm-psr7 php-psr-simple-cache php-symfony-cache \
php-symfony-http-client php-symfony-mime" "programs in PHP, redirected to the server"
  needs wget wget "a client that is redirected to the server"
  ruby -rhttp -rtyphoeus -e 0 2>/dev/null && perl -MMojo::UserAgent -MIO::Socket::SSL -MLWP::Protocol::https -e 0 2>/dev/null ||
    lacks "ruby-http ruby-faraday ruby-httparty ruby-rest-client ruby-excon ruby-httpclient ruby-typhoeus \
libwww-perl liblwp-protocol-https-perl libmojolicious-perl libio-socket-ssl-perl" "clients for Ruby and Perl, redirected to the server"
  needs zsh zsh "completion in zsh"
  needs fish fish "completion in fish"
  needs mandoc mandoc "man pages, checked by a formatter"
  needs nginx nginx-light "exported pages and proxies, with another server"
  needs promtool prometheus "alert rules, checked by Prometheus"
  needs systemd-analyze systemd "units, checked by systemd"
  needs haproxy haproxy "the example cluster, with its load balancer"
  needs pgbouncer pgbouncer "PostgreSQL behind its pooler"
  needs patroni "patroni python3-etcd python3-psycopg2" "failover of PostgreSQL by Patroni"
  needs etcd etcd-server "failover of PostgreSQL by Patroni"
  needs strace strace "system calls of a write"
  needs ip iproute2 "a program in a separate network namespace"
}

case $what in
codes | tests | all) ;;
*) echo "install-test-deps.sh: no list $what; there are codes, tests, all" >&2; exit 2 ;;
esac

# missing prints the packages, each once.
missing() { "$what" | cut -d'|' -f1 | tr ' ' '\n' | awk '!seen[$0]++' | xargs; }

# exit_with_missing exits and reports the missing packages: in the report file, or as an error.
exit_with_missing() {
  [ -n "$(missing)" ] || exit 0
  if [ -z "$report" ]; then
    echo "$1: $(missing)" >&2
    exit 1
  fi
  "$what" | awk -F'|' '!seen[$0]++ { print $1 ", for " $2 ": install it with the package manager of this system" }' >>"$report"
  echo "$1: $(missing); the tests that need them are skipped" >&2
  exit 0
}

packages=$(missing)
[ -n "$packages" ] || exit 0
command -v apt-get >/dev/null || exit_with_missing "apt-get is not installed, and these packages are missing"
[ "$(id -u)" = 0 ] || exit_with_missing "only root can install packages, and these are missing"

export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5)
# recent reports whether the package lists were updated in the last hour: make test-all runs this script twice.
recent() {
  [ -n "$(find /var/lib/apt/lists/partial -maxdepth 0 -mmin -60 2>/dev/null)" ] && ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1
}
# A machine that has just booted may be updating its package lists, and apt-get cannot wait for that lock.
update() {
  local pause
  for pause in 5 20 60 0; do
    ! "${apt[@]}" -o APT::Update::Error-Mode=any update || break
    [ "$pause" != 0 ] || echo "apt-get update failed; trying with the existing package lists" >&2
    sleep "$pause"
  done
}
# shellcheck disable=SC2086 # a list of words
install() { "${apt[@]}" install --no-install-recommends $packages; }
# Only programs are needed: no service is started now, and none of these at the next boot.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
{ recent && install; } || { update && install; } || echo "not all of these could be installed: $packages" >&2
for service in nginx prometheus postgresql haproxy pgbouncer patroni etcd; do
  case " $packages " in
    *" $service"*) ! command -v systemctl >/dev/null || systemctl disable --quiet "$service" >&2 || true ;;
  esac
done
exit_with_missing "still missing after the installation"
