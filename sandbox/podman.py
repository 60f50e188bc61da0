"""Podman through its Docker-compatible socket: where it listens, and what it wants otherwise than Docker, as data.

Everything else is Docker's code (`sandbox.docker`). Left out: starting the service.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.policy import GID, UID

START = (
    "Start its service (`systemctl --user start podman.socket`, as root `systemctl start podman.socket`; without "
    "systemd `podman system service --time=0 unix://SOCKET`), set CONTAINER_HOST to where it listens "
    "(`unix:///run/podman/podman.sock`), or use another `--sandbox`."
)
API = "1.40"  # of Docker; every Podman since 3 speaks it, and to ask which one it prefers takes it 0.4 seconds
OWN_INFO = "v4.0.0/libpod/info"  # in its own API
NO_INIT = "container-init binary not found"  # Podman takes the program `catatonit` for that, a package of its own
ENDED_MEANWHILE = "could not be stopped"  # what removing a container says that ends by itself at that moment
# With no limits of its own it gives root a million processes, and needs the right to raise limits for that.
_PROCESSES_OF_ROOT = 16384
# It puts memory file systems without a bound over these where the root is read-only.
_CLOSED = {
    "/run": "ro,nosuid,nodev,noexec,size=1m,mode=0755,notmpcopyup",
    "/var/tmp": "ro,nosuid,nodev,noexec,size=1m,mode=1777,notmpcopyup",  # noqa: S108
}
_LIMITS = ("mem_limit", "memswap_limit", "pids_limit", "nano_cpus")


def address(env: Mapping[str, str] | None = None) -> str:
    """Where Podman listens: CONTAINER_HOST, else the first of the usual sockets that is there.

    Raises ValueError for a place that sandboxes can't use, FileNotFoundError when there is no socket.
    """
    env = os.environ if env is None else env
    if said := env.get("CONTAINER_HOST"):
        if not said.startswith(("unix://", "tcp://")):
            raise ValueError(
                f"CONTAINER_HOST is {said!r}, and sandboxes need a unix socket or plain TCP (`ssh -L` forwards one)"
            )
        return said
    tried = _sockets(env)
    for path in tried:
        if path.is_socket():
            return f"unix://{path}"
    raise FileNotFoundError(f"no socket at {' or '.join(map(str, tried))}")


def _sockets(env: Mapping[str, str]) -> list[Path]:
    """One's own first: who isn't root may have the right to use root's, and wouldn't mean it."""
    folders = ["/run"] if os.getuid() == 0 else [f"/run/user/{os.getuid()}", "/run"]
    if runtime := env.get("XDG_RUNTIME_DIR"):
        folders.insert(0, runtime)
    return list(dict.fromkeys(Path(folder, "podman/podman.sock") for folder in folders))


def settings(docker: Mapping[str, Any], *, rootless: bool, bounds: bool) -> dict[str, Any]:
    """A container's settings in Podman's words, from those in Docker's.

    `rootless`: the service isn't root's; the user inside is then one of the caller's subordinate ids, so what runs
    there is neither root nor the caller on the host. `bounds`: it can limit memory and processes.
    """
    from docker.types import Ulimit

    own = dict(docker)
    own["tmpfs"] = {**_CLOSED, **{path: _tmpfs(options) for path, options in docker["tmpfs"].items()}}
    if rootless:
        own["user"] = f"{UID}:{GID}"
    else:
        processes = Ulimit(name="nproc", soft=_PROCESSES_OF_ROOT, hard=_PROCESSES_OF_ROOT)
        own["ulimits"] = [*docker["ulimits"], processes]
    if not bounds:
        own = {name: value for name, value in own.items() if name not in _LIMITS}
    return own


def _tmpfs(options: str) -> str:
    """`U` gives the folder to the container's user; Podman takes no ids and no number of files (seen with 4.3).

    Left to itself it would copy the image's files in.
    """
    kept = [option for option in options.split(",") if not option.startswith(("uid=", "gid=", "nr_inodes="))]
    return ",".join([*kept, "U", "notmpcopyup"])
