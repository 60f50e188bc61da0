#!/usr/bin/env bash
# A private Podman service for development and CI, on a machine without systemd. Debian or Ubuntu, with or without root.
#
#   scripts/podman.sh start     install what is missing (as root), start, wait until it answers; prints CONTAINER_HOST
#   scripts/podman.sh stop      stop it with all its containers; images and state stay
#   scripts/podman.sh address   what CONTAINER_HOST has to be
#   scripts/podman.sh status    `up` or `down`; exit code 0 or 3
#   scripts/podman.sh wipe      stop it and remove its state
#
# It has its own socket, settings and state. Who asks for a network gets Podman's own bridge, which stays after `wipe`.
# PATCHWRIGHT_PODMAN names its folder; the default lies in memory, one for each user. PATCHWRIGHT_PODMAN_USER=NAME,
# as root, makes it the service of that user, who is added where there is none: rootless, for tests.
set -euo pipefail

user=${PATCHWRIGHT_PODMAN_USER:-}
uid=$(id -u)
start_seconds=60
stop_seconds=30

say() { printf 'podman: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

packages=(podman catatonit runc uidmap)

install_podman() {
  local missing=()
  command -v podman >/dev/null || missing+=("${packages[@]}")
  [ -x /usr/libexec/podman/catatonit ] || command -v catatonit >/dev/null || missing+=(catatonit)
  [ -z "$user" ] || command -v newuidmap >/dev/null || missing+=(uidmap)
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "missing: ${missing[*]}, and there is no apt-get; install them yourself."
  [ "$uid" = 0 ] || die "missing: ${missing[*]}; \`apt-get install ${missing[*]}\` as root, or use \`--sandbox bubblewrap\`."
  say "installing ${missing[*]}"
  local log options=(-q -o DPkg::Lock::Timeout=600)
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  { dpkg --configure -a && apt-get "${options[@]}" update &&
    apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
    { tail -n 15 "$log" >&2; die "installing failed; the lines above say why."; }
  rm -f "$log"
}

# As root for somebody else: the same script again, as that user.
as_user() {
  if ! id "$user" >/dev/null 2>&1; then
    [ "$1" = start ] || { say "there is no user $user"; exit 3; }
    useradd --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user" # with subordinate ids
  fi
  local script
  script=$(cat "$0") # that user may not be able to read the checkout
  cd /
  exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups --reset-env env \
    PATCHWRIGHT_PODMAN="${PATCHWRIGHT_PODMAN:-}" PATH=/usr/sbin:/usr/bin:/sbin:/bin bash -c "$script" podman.sh "$1"
}

# An engine answers on its socket: the client's own question would wait for ever on a dead one.
answers() {
  [ -S "$socket" ] && timeout -k 2 5 python3 - "$socket" 2>/dev/null <<'PY'
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(4)
    s.connect(sys.argv[1])
    s.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
    sys.exit(b"200 OK" not in s.recv(2000))
PY
}

# Processes called $1 whose command line names $2: never one of another service.
ours() {
  local entry
  for entry in /proc/[0-9]*; do
    [ "$(cat "$entry/comm" 2>/dev/null)" = "$1" ] || continue
    tr '\0' ' ' <"$entry/cmdline" 2>/dev/null | grep -qF -- "$2" && echo "${entry#/proc/}"
  done
  return 0
}

# One of these commands at a time; the service itself must not inherit the lock.
lock() { exec 9>"$folder.lock" && flock 9; }

settings() {
  mkdir -p "$folder"/{tmp,home,run}
  mkdir -p -m 700 "$folder/xdg"
  local files runtime=crun
  files=$(ulimit -Hn)
  command -v runc >/dev/null && runtime=runc # crun fails where control groups of both versions are mounted
  cat >"$folder/containers.conf" <<CONF
[containers]
# For builds: without the right to raise limits Podman can't give what it gives by default.
default_ulimits = ["nofile=$files:$files", "nproc=16384:16384"]
log_driver = "k8s-file"
[engine]
runtime = "$runtime"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
image_copy_tmp_dir = "$folder/tmp"
static_dir = "$folder/data/libpod"
tmp_dir = "$folder/run/libpod"
volume_path = "$folder/data/volumes"
[network]
network_config_dir = "$folder/networks"
CONF
  cat >"$folder/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$folder/data"
rootless_storage_path = "$folder/data"
runroot = "$folder/run"
CONF
}

podman_ours() {
  HOME=$folder/home XDG_RUNTIME_DIR=$folder/xdg TMPDIR=$folder/tmp CONTAINERS_CONF=$folder/containers.conf \
    CONTAINERS_STORAGE_CONF=$folder/storage.conf exec podman "$@"
}

start() {
  if answers; then
    say "is up"
  else
    install_podman
    if [ "$uid" != 0 ] && ! grep -qE "^($uid|$(id -un)):" /etc/subuid 2>/dev/null; then
      die "user $(id -un) has no subordinate ids; as root: \`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)\`."
    fi
    settings
    stop # what a killed service left
    launch
  fi
  echo "CONTAINER_HOST=$(address)"
}

address() { echo "unix://$socket"; }

launch() {
  (cd / && podman_ours system service --time=0 "unix://$socket") >"$log" 2>&1 </dev/null 9>&- &
  local service=$! tries=$((start_seconds * 5))
  until answers; do
    if ! kill -0 "$service" 2>/dev/null || [ $((tries -= 1)) -le 0 ]; then
      tail -n 15 "$log" >&2
      die "the service didn't start; the lines above are the end of $log."
    fi
    sleep 0.2
  done
  say "is up, state in $folder"
}

stop() {
  local pid tries=$((stop_seconds * 5))
  for pid in $(ours podman "$socket"); do kill -TERM "$pid" 2>/dev/null || true; done
  while [ -n "$(ours podman "$socket")" ] && [ $((tries -= 1)) -gt 0 ]; do sleep 0.2; done
  for pid in $(ours podman "$socket"); do kill -KILL "$pid" 2>/dev/null || true; done
  # a container is the child of its conmon: it goes first
  for pid in $(ours conmon "$folder/"); do
    kill -KILL $(cat "/proc/$pid/task/"*/children 2>/dev/null) "$pid" 2>/dev/null || true
  done
  rm -f "$socket"
}

wipe() {
  stop
  [ -d "$folder" ] || return 0
  if [ "$uid" = 0 ]; then
    awk -v below="$folder/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r |
      while read -r mount; do umount -l "$mount"; done
  else # much of it belongs to subordinate ids
    (podman_ours unshare rm -rf "$folder/data" 2>/dev/null) || true # all but a mount of the namespace's own
    pids=$(find "$folder" -name pause.pid -exec cat {} +) # keeps its namespaces
    [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
  fi
  rm -rf "$folder" "$folder.lock"
}

if [ -n "$user" ] && [ "$uid" = 0 ]; then
  [ "${1:-}" != start ] || install_podman
  as_user "${1:-}"
fi
folder=${PATCHWRIGHT_PODMAN:-/dev/shm/patchwright-podman-$uid}
socket=$folder/podman.sock
log=$folder/service.log
case ${1:-} in
  start) lock; start ;;
  stop) lock; stop ;;
  address) address ;;
  status) if answers; then echo up; else echo down; exit 3; fi ;;
  wipe) lock; wipe ;;
  *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
