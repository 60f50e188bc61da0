"""What the engine is told about a container: the policy in Docker's words.

Left out: the policy itself (`sandbox.policy`), opening the container (`sandbox.docker`).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sandbox.docker_engine import LABEL, OWNER_LABEL
from sandbox.owner import owner
from sandbox.policy import HOME, STATE_DIR, SandboxSpec, inside_ids, new_name

if TYPE_CHECKING:
    from docker import DockerClient


def container_settings(spec: SandboxSpec, cpus: float) -> dict[str, Any]:
    from docker.types import Ulimit

    limits = spec.limits
    uid, gid = inside_ids()
    return {
        "name": new_name(),
        "user": f"{uid}:{gid}",  # never a uid alone: its group would be root
        "labels": {LABEL: "1", OWNER_LABEL: owner(), **_prefixed(spec.labels)},
        "environment": spec.environment(),
        "working_dir": "/",
        "hostname": "sandbox",
        "entrypoint": [],
        "network_mode": "none",  # for `registries`, too: the way out is the guest's channel
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "privileged": False,
        "init": True,
        "ipc_mode": "private",
        "shm_size": limits.shm_bytes,
        "mem_limit": limits.total_memory,
        "memswap_limit": limits.total_memory,
        "pids_limit": limits.processes,
        "nano_cpus": int(cpus * 1e9),
        "ulimits": [
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="nofile", soft=limits.open_files, hard=limits.open_files),
        ],
        "tmpfs": {
            spec.workdir: _tmpfs(limits.workdir_bytes, limits.files, "0755", uid, gid),
            "/tmp": _tmpfs(limits.tmp_bytes, limits.files, "1777", uid, gid),  # noqa: S108
            HOME: _tmpfs(limits.home_bytes, limits.files, "0755", uid, gid),
            STATE_DIR: _tmpfs(limits.state_bytes, limits.files, "0700", uid, gid),
        },
        "stdin_open": True,
        "tty": False,
        "log_config": {"type": "none"},  # what the guest says is ours, and may be gigabytes
        "auto_remove": False,
        "restart_policy": {"Name": "no"},
        "healthcheck": {"test": ["NONE"]},  # the image's would be run beside the guest, again and again
        **({"runtime": spec.runtime} if spec.runtime else {}),
    }


def closed_volumes(settings: Mapping[str, Any], volumes: Iterable[str], *, named: bool) -> dict[str, Any]:
    """With a mount of ours for each folder that the image declares as a volume.

    The engine would make a writable one for it, on its own disk and without a bound. What the image holds there stays
    to be read; below a writable folder it is another such folder. `named`: the engine (Docker) makes no read-only
    volume without a name; those are `own_volumes`, to be removed after the container.
    """
    from docker.types import Mount

    tmpfs, mounts = dict(settings["tmpfs"]), list(settings.get("mounts", ()))
    for volume in volumes:
        path = posixpath.normpath(f"/{volume.lstrip('/')}")
        above = next((folder for folder in settings["tmpfs"] if path.startswith(f"{folder}/")), None)
        if path in tmpfs:
            continue
        if above is not None:
            tmpfs[path] = tmpfs[above]
        else:
            name, labels = (new_name(), {OWNER_LABEL: owner()}) if named else (None, None)
            mounts.append(Mount(path, name, type="volume", read_only=True, labels=labels))
    return {**settings, "tmpfs": tmpfs, **({"mounts": mounts} if mounts else {})}


def own_volumes(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the volumes that are made with this container and carry its owner's name."""
    mounts = settings.get("mounts", ())
    return tuple(mount["Source"] for mount in mounts if (mount.get("VolumeOptions") or {}).get("Labels"))


def _tmpfs(size: int, files: int, mode: str, uid: int, gid: int) -> str:
    return f"rw,exec,nosuid,nodev,size={size},nr_inodes={files},mode={mode},uid={uid},gid={gid}"


def full_network(client: DockerClient) -> str:
    """The engine's bridge, where it has one: what listens on the host's loopback can't be reached from there.

    Without one it is the host's own network, as it is in bubblewrap.
    """
    named = {network.name for network in client.networks.list()}
    return "default" if named & {"bridge", "podman"} else "host"


def _prefixed(labels: Mapping[str, str]) -> dict[str, str]:
    return {f"patchwright.{name}": value for name, value in labels.items()}
