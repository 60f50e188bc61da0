#!/usr/bin/env bash
# A private Postgres on the loopback for development and CI, on a machine without systemd. Debian or Ubuntu, with or without root.
#
#   scripts/postgres.sh install   install what is missing (as root); prints where its programs are
#   scripts/postgres.sh start     install what is missing (as root), start, wait until it answers; prints PATCHWRIGHT_DATABASE
#   scripts/postgres.sh stop      stop it; its data stays
#   scripts/postgres.sh address   its URL, with the password; exit code 3 when there is none
#   scripts/postgres.sh status    `up` or `down`; exit code 0 or 3
#   scripts/postgres.sh wipe      stop it and remove its data
#   scripts/postgres.sh path      where its programs are; exit code 3 when they aren't installed
#
# It has its own folder, port, user and password, and touches no other Postgres of the machine. It never runs as root:
# started by root it is the user `postgres`'s, whom Debian's package adds. PATCHWRIGHT_POSTGRES names its folder; the
# default lies in memory, one for each user.
set -euo pipefail

uid=$(id -u)
folder=${PATCHWRIGHT_POSTGRES:-/dev/shm/patchwright-postgres-$uid}
data=$folder/data
log=$folder/postgres.log
start_seconds=60
database=patchwright

say() { printf 'postgres: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

programs() { # the folder with initdb; Debian keeps it off PATH
  local found
  found=$(command -v initdb) && { dirname "$(readlink -f "$found")"; return; }
  found=$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
  [ -n "$found" ] && dirname "$found"
}

install_postgres() {
  programs >/dev/null && return
  command -v apt-get >/dev/null || die "Postgres is missing and there is no apt-get; install it yourself."
  [ "$uid" = 0 ] || die "Postgres is missing; \`apt-get install postgresql\` as root."
  say "installing postgresql"
  local report options=(-q -o DPkg::Lock::Timeout=600)
  report=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  # the package would start a server of its own
  mkdir -p /etc/postgresql-common && [ -e /etc/postgresql-common/createcluster.conf ] ||
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  { dpkg --configure -a && apt-get "${options[@]}" update &&
    apt-get "${options[@]}" install -y --no-install-recommends postgresql; } >"$report" 2>&1 ||
    { tail -n 15 "$report" >&2; die "installing failed; the lines above say why."; }
  rm -f "$report"
}

# Postgres refuses to run as root.
as_user() { if [ "$uid" = 0 ]; then (cd / && exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"); else "$@"; fi; }

answers() { [ -e "$folder/port" ] && as_user "$(programs)/pg_isready" -q -h 127.0.0.1 -p "$(cat "$folder/port")" -t 5; }

# One of these commands at a time; the server itself must not inherit the lock.
lock() { mkdir -p "$(dirname "$folder")" && exec 9>"$folder.lock" && flock 9; }

create() {
  mkdir -p "$folder"
  chmod 700 "$folder"
  (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(16))' >"$folder/password")
  python3 -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])' >"$folder/port"
  : >"$log"
  [ "$uid" != 0 ] || chown -R postgres: "$folder"
  as_user "$(programs)/initdb" -D "$data" -U patchwright --pwfile="$folder/password" --auth=scram-sha-256 -E UTF8 \
    --locale=C.UTF-8 >>"$log" 2>&1 || { tail -n 15 "$log" >&2; die "initdb failed; the lines above say why."; }
}

start() {
  if answers; then
    say "is up"
  else
    install_postgres
    [ -s "$data/PG_VERSION" ] || { rm -rf "$folder"; create; }
    as_user "$(programs)/pg_ctl" -D "$data" -l "$log" -w -t $start_seconds start \
      -o "-c listen_addresses=127.0.0.1 -p $(cat "$folder/port") -c unix_socket_directories= -c max_connections=200" \
      >/dev/null 9>&- || { tail -n 15 "$log" >&2; die "it didn't start; the lines above are the end of $log."; }
    PGPASSWORD=$(cat "$folder/password") as_user "$(programs)/psql" -q -h 127.0.0.1 -p "$(cat "$folder/port")" \
      -U patchwright -d postgres -c "CREATE DATABASE $database" >/dev/null 2>&1 9>&- || true # there since the last time
    say "is up, data in $folder"
  fi
  echo "PATCHWRIGHT_DATABASE=$(address)"
}

address() {
  [ -e "$folder/port" ] || exit 3
  echo "postgresql://patchwright:$(cat "$folder/password")@127.0.0.1:$(cat "$folder/port")/$database"
}

stop() {
  [ -e "$data/postmaster.pid" ] || return 0
  as_user "$(programs)/pg_ctl" -D "$data" -m fast -w -t 30 stop >/dev/null 2>&1 ||
    as_user "$(programs)/pg_ctl" -D "$data" -m immediate -w -t 30 stop >/dev/null 2>&1 || true
}

wipe() { stop; rm -rf "$folder" "$folder.lock"; }

case ${1:-} in
  start) lock; start ;;
  stop) lock; stop ;;
  address) address ;;
  status) if answers; then echo up; else echo down; exit 3; fi ;;
  wipe) lock; wipe ;;
  install) install_postgres; programs ;;
  path) programs || exit 3 ;;
  *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
