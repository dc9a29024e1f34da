#!/bin/sh
# One of the two PostgreSQL servers of the cluster.
#
#   postgres.sh serve   run the server. If it has no data, first copy the other server if that is a primary, or create a new database if
#                       POSTGRES_FIRST=yes, or else wait. A new database does not acknowledge commits until it has a replica.
#   postgres.sh copy    replace the data of the stopped server by a copy of the other one, after the other one was promoted
#
# postgresql.conf and pg_hba.conf are in the same directory. The environment contains PGDATA, POSTGRES_LISTEN and POSTGRES_OTHER
# (HOST:PORT), POSTGRES_FIRST, POSTGRES_PASSWORD (of the role qrjump) and REPLICA_PASSWORD (of the role standby).
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
made=$PGDATA.new
other_host=${POSTGRES_OTHER%:*} other_port=${POSTGRES_OTHER##*:}

# other_leads reports whether the other server is reachable and accepts writes.
other_leads() {
  [ "$(PGPASSWORD=$POSTGRES_PASSWORD PGCONNECT_TIMEOUT=2 psql -XAtq -h "$other_host" -p "$other_port" -U qrjump -d qrjump \
    -c 'SELECT NOT pg_is_in_recovery()' 2>/dev/null)" = t ]
}

copy() {
  other_leads || { echo "postgres.sh: $POSTGRES_OTHER does not answer as a primary: promote it first" >&2; exit 1; }
  ! pg_ctl status -D "$PGDATA" >/dev/null 2>&1 || { echo "postgres.sh: the server in $PGDATA runs: stop it first" >&2; exit 1; }
  rm -rf "$made"
  PGPASSWORD=$REPLICA_PASSWORD pg_basebackup -h "$other_host" -p "$other_port" -U standby -D "$made" -R -c fast -X stream
  rm -rf "$PGDATA"
  mv "$made" "$PGDATA"
}

# quoted prints its argument as an SQL string.
quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/''/g")"; }

new() {
  rm -rf "$made"
  initdb -D "$made" -U postgres --encoding=UTF8 --locale=C --auth=scram-sha-256 --auth-local=peer >&2
  postgres --single -j -D "$made" -c exit_on_error=on -c synchronous_commit=local postgres <<SQL >/dev/null
CREATE ROLE qrjump LOGIN PASSWORD $(quoted "$POSTGRES_PASSWORD");

CREATE ROLE standby REPLICATION LOGIN PASSWORD $(quoted "$REPLICA_PASSWORD");

GRANT pg_read_all_stats TO qrjump;

CREATE DATABASE qrjump OWNER qrjump;

SQL
  mv "$made" "$PGDATA"
}

serve() {
  until [ -s "$PGDATA/PG_VERSION" ]; do
    if other_leads; then
      copy
    elif [ "$POSTGRES_FIRST" = yes ]; then
      new
    else
      sleep 1
    fi
  done
  exec postgres -D "$PGDATA" -c "config_file=$here/postgresql.conf" -c "hba_file=$here/pg_hba.conf" \
    -c "listen_addresses=${POSTGRES_LISTEN%:*}" -c "port=${POSTGRES_LISTEN##*:}"
}

case "${1-}" in
serve | copy) "$1" ;;
*) echo "usage: postgres.sh serve | copy" >&2; exit 2 ;;
esac
