#!/bin/bash
# Makes the cluster's files at the first start, with the password of POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=${POSTGRES_PASSWORD:-$(cat "${POSTGRES_PASSWORD_FILE:?is not set, nor POSTGRES_PASSWORD}")}
  mkdir -p "$PGDATA" && chmod 700 "$PGDATA"
  initdb --pgdata="$PGDATA" --username="${POSTGRES_USER:-postgres}" --pwfile=<(echo "$password") --auth=scram-sha-256 --encoding=UTF8
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
