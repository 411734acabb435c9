#!/usr/bin/env bash
# PostgreSQL with a fresh cluster in DIRECTORY, on every address, for anyone. usage: serve_postgres.sh DIRECTORY
set -euo pipefail
binaries=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)
rm -rf "$1"
install -d -o postgres -g postgres -m 700 "$1"
cd "$1"
run() { setpriv --reuid postgres --regid postgres --clear-groups -- "$@"; }
run "$binaries/initdb" -D "$1" -A trust -U lab --no-sync >/dev/null
printf 'host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n' >>"$1/pg_hba.conf"
exec setpriv --reuid postgres --regid postgres --clear-groups -- "$binaries/postgres" -D "$1" \
    -c listen_addresses='*' -c unix_socket_directories="$1" -c fsync=off -c max_connections=100
