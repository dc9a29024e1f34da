#!/usr/bin/env bash
# Installs the distribution's packages that tests need and that are not here yet, where this user may and apt-get is there.
# With everything in place it says nothing and changes nothing.
#
#   scripts/install-test-deps.sh tests FILE   what make test uses
#   scripts/install-test-deps.sh all FILE     what make test-all uses as well
#   scripts/install-test-deps.sh codes        what scripts/demo-codes.sh cannot do without
#
# What is still missing goes into FILE, one line each: the tests that need it are left out. Without FILE it is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-tests} report=${2-}

# needs PROGRAM PACKAGE USE prints a line where a program is not here: the packages that have it, and what uses it.
needs() { command -v "$1" >/dev/null || lacks "$2" "$3"; }
lacks() { printf '%s|%s\n' "$1" "$2"; }

codes() {
  needs curl curl "other people's calls of the server"
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
  # a printer's package is opened and checked by programs that are not ours
  needs age age "packages for printers, opened by another program"
  needs ssh-keygen openssh-client "signatures of packages, checked by another program"
}

all() {
  tests
  # go test -race links with C; the headers are a package of their own
  echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1 || lacks 'gcc libc6-dev' "the race detector"
  needs npm npm "client libraries for Node.js"
  needs ruby ruby "programs in Ruby, led to the server"
  [ -f /usr/share/php/GuzzleHttp/autoload.php ] && [ -f /usr/share/php/Psr/SimpleCache/autoload.php ] && command -v php >/dev/null ||
    lacks "php-cli php-curl php-xml php-guzzlehttp-guzzle php-nyholm-psr7 php-psr-simple-cache php-symfony-cache \
php-symfony-http-client php-symfony-mime" "programs in PHP, led to the server"
  needs wget wget "a client that is led to the server"
  ruby -rhttp -rtyphoeus -e 0 2>/dev/null && perl -MMojo::UserAgent -MIO::Socket::SSL -MLWP::Protocol::https -e 0 2>/dev/null ||
    lacks "ruby-http ruby-faraday ruby-httparty ruby-rest-client ruby-excon ruby-httpclient ruby-typhoeus \
libwww-perl liblwp-protocol-https-perl libmojolicious-perl libio-socket-ssl-perl" "clients for Ruby and Perl, led to the server"
  needs zsh zsh "completion in zsh"
  needs fish fish "completion in fish"
  needs mandoc mandoc "man pages, read by what prints them"
  needs nginx nginx-light "exported pages and proxies, served by another program"
  needs promtool prometheus "rules of alerts, checked by Prometheus"
  needs systemd-analyze systemd "units, checked by systemd"
  needs haproxy haproxy "the cluster to copy, behind its balancer"
  needs pgbouncer pgbouncer "PostgreSQL behind its pooler"
  needs patroni "patroni python3-etcd python3-psycopg2" "failover of PostgreSQL by Patroni"
  needs etcd etcd-server "failover of PostgreSQL by Patroni"
  needs strace strace "which calls of the system a write makes"
  needs ip iproute2 "a program with a network of its own"
}

case $what in
codes | tests | all) ;;
*) echo "install-test-deps.sh: no list $what; there are codes, tests, all" >&2; exit 2 ;;
esac

# missing lists the packages, each once.
missing() { "$what" | cut -d'|' -f1 | tr ' ' '\n' | awk '!seen[$0]++' | xargs; }

# told ends with what is still missing: as lines for the summary, or as an error.
told() {
  [ -n "$(missing)" ] || exit 0
  if [ -z "$report" ]; then
    echo "$1: $(missing)" >&2
    exit 1
  fi
  "$what" | awk -F'|' '!seen[$0]++ { print $1 ", for " $2 ": install it with the package manager of this system" }' >>"$report"
  echo "$1: $(missing); the tests that need them are left out" >&2
  exit 0
}

packages=$(missing)
[ -n "$packages" ] || exit 0
command -v apt-get >/dev/null || told "there is no apt-get here, and these are missing"
[ "$(id -u)" = 0 ] || told "only root may install, and these are missing"

export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5)
# recent reports whether an update of the last hour brought lists: make test-all comes here twice.
recent() {
  [ -n "$(find /var/lib/apt/lists/partial -maxdepth 0 -mmin -60 2>/dev/null)" ] && ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1
}
# A machine that has just started may be updating its package lists by itself, and there is no waiting for that lock.
update() {
  local pause
  for pause in 5 20 60 0; do
    ! "${apt[@]}" -o APT::Update::Error-Mode=any update || break
    [ "$pause" != 0 ] || echo "apt-get update failed; trying with the package lists that are here" >&2
    sleep "$pause"
  done
}
# shellcheck disable=SC2086 # a list of words
install() { "${apt[@]}" install --no-install-recommends $packages; }
# Programs are wanted, no service: none is started now, and none of these at the next boot.
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
told "still missing after the installation"
