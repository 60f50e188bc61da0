#!/usr/bin/env bash
# A private Docker engine for development and CI, on a machine without systemd. Root, Debian or Ubuntu.
#
#   scripts/docker-engine.sh start     install what is missing, start, wait until it answers; prints DOCKER_HOST
#                                      (`start runsc`: with gVisor's runsc, which is registered wherever it is there)
#   scripts/docker-engine.sh stop      stop it with all its containers; images and state stay
#   scripts/docker-engine.sh address   what DOCKER_HOST has to be
#   scripts/docker-engine.sh status    `up` or `down`; exit code 0 or 3
#   scripts/docker-engine.sh wipe      stop it and remove its state
#
# It has its own socket, state and containerd, adds no firewall rule and no bridge: containers have no network
# unless they share the host's. PATCHWRIGHT_DOCKER names its folder; the default lies in memory, because an engine
# on a slow disk takes seconds for each container.
set -euo pipefail

folder=${PATCHWRIGHT_DOCKER:-/dev/shm/patchwright-docker}
socket=$folder/docker.sock
pid_file=$folder/docker.pid
log=$folder/dockerd.log
start_seconds=60
stop_seconds=30

say() { printf 'docker-engine: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# An engine answers on its socket: the client's own question would wait for ever on a dead one.
answers() {
  [ -S "$socket" ] && timeout -k 2 5 python3 - "$socket" 2>/dev/null <<'PY'
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(4)
    s.connect(sys.argv[1])
    s.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
    sys.exit(b"200 OK" not in s.recv(200))
PY
}

# Processes called $1 whose command line names $2: never one of another engine.
ours() {
  local entry
  for entry in /proc/[0-9]*; do
    [ "$(cat "$entry/comm" 2>/dev/null)" = "$1" ] || continue
    tr '\0' ' ' <"$entry/cmdline" 2>/dev/null | grep -qF -- "$2" && echo "${entry#/proc/}"
  done
  return 0
}

# A shim outlives a killed engine, and a container its killed shim: the container's first process goes first.
all_ours() {
  local shim
  for shim in $(ours containerd-shim "$folder/"); do
    cat "/proc/$shim/task/"*/children 2>/dev/null || true
    echo "$shim"
  done
  ours dockerd "$socket"
  ours containerd "$folder/"
}

# One of these commands at a time; the engine itself must not inherit the lock.
lock() { mkdir -p "$(dirname "$folder")" && exec 9>"$folder.lock" && flock 9; }

install_engine() { # names of more packages
  local packages=("$@")
  command -v dockerd >/dev/null || packages+=(docker.io)
  [ ${#packages[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "${packages[*]} isn't installed and there is no apt-get; install it yourself."
  say "installing ${packages[*]}"
  local options=(-q -o DPkg::Lock::Timeout=600)
  export DEBIAN_FRONTEND=noninteractive
  { dpkg --configure -a && apt-get "${options[@]}" update &&
    apt-get "${options[@]}" install -y --no-install-recommends "${packages[@]}"; } >"$folder/install.log" 2>&1 ||
    { tail -n 15 "$folder/install.log" >&2; die "installing ${packages[*]} failed; the lines above say why."; }
}

start() { # [runsc]
  local more=()
  [ "${1:-}" != runsc ] || command -v runsc >/dev/null || more=(runsc)
  if answers && [ ${#more[@]} = 0 ] && { [ "${1:-}" != runsc ] || [ -x "$folder/runsc" ]; }; then
    say "is up"
  else
    [ "$(id -u)" = 0 ] || die "needs root; without root use \`--sandbox bubblewrap\`."
    mkdir -p "$folder"
    install_engine "${more[@]}"
    stop # what a killed engine left would keep the new one from starting
    launch
  fi
  echo "DOCKER_HOST=$(address)"
}

address() { echo "unix://$socket"; }

# gVisor: without systemd and network it needs to be told so; ptrace is the platform that needs no hardware.
runtimes() {
  command -v runsc >/dev/null || return 0
  printf '#!/bin/sh\nexec %s --network=none --platform=ptrace "$@"\n' "$(command -v runsc)" >"$folder/runsc"
  chmod 755 "$folder/runsc"
  echo "--add-runtime=runsc=$folder/runsc"
}

launch() {
  # shellcheck disable=SC2046
  setsid dockerd --host "unix://$socket" --data-root "$folder/data" --exec-root "$folder/exec" \
    --pidfile "$pid_file" --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false --bridge=none \
    --shutdown-timeout 2 $(runtimes) >"$log" 2>&1 </dev/null 9>&- &
  local engine=$! tries=$((start_seconds * 5))
  until answers; do
    if ! kill -0 "$engine" 2>/dev/null || [ $((tries -= 1)) -le 0 ]; then
      tail -n 15 "$log" >&2
      die "the engine didn't start; the lines above are the end of $log."
    fi
    sleep 0.2
  done
  say "is up, state in $folder"
}

stop() {
  local pid tries=$((stop_seconds * 5))
  for pid in $(ours dockerd "$socket"); do kill -TERM "$pid" 2>/dev/null || true; done
  while [ -n "$(ours dockerd "$socket")" ] && [ $((tries -= 1)) -gt 0 ]; do sleep 0.2; done
  for pid in $(all_ours); do kill -KILL "$pid" 2>/dev/null || true; done
  # containerd takes a left pid file for a running one, also when that process is a zombie, and waits for it
  rm -f "$pid_file" "$socket" "$folder"/exec/containerd/containerd.pid "$folder"/exec/containerd/*.sock*
}

wipe() {
  stop
  awk -v below="$folder/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r mount; do umount -l "$mount"; done
  rm -rf "$folder" "$folder.lock"
}

case ${1:-} in
  start) lock; start "${2:-}" ;;
  stop) lock; stop ;;
  address) address ;;
  status) if answers; then echo up; else echo down; exit 3; fi ;;
  wipe) lock; wipe ;;
  *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
