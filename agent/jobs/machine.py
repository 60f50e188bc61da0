"""Which process this is, and whether another one of this machine still lives. Linux's /proc, nothing else."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

_DEAD = ("Z", "X", "x")  # waits for its parent only


@dataclass(frozen=True, slots=True)
class Identity:
    """A worker's process. `id` is new each time; `place` is equal for those that see each other's process ids."""

    id: str
    name: str
    machine: str
    place: str
    pid: int
    started: int  # clock ticks since boot, so that a process id in use again isn't taken for the old process


def identity(name: str | None) -> Identity:
    pid, machine = os.getpid(), socket.gethostname()
    chosen = name or f"{machine}-{pid}"
    boot = _first_line(Path("/proc/sys/kernel/random/boot_id"))
    place = f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    return Identity(f"{chosen}-{uuid.uuid4().hex[:12]}", chosen, machine, place, pid, _started(pid) or 0)


def is_gone(here: Identity, place: str, pid: int, started: int) -> bool:
    """Whether that process has certainly ended. False for one of another machine or container: nobody can tell."""
    return place == here.place and _started(pid) != started


def _started(pid: int) -> int | None:
    """When it was started, None where it isn't or is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in _DEAD else int(fields[19])


def _first_line(path: Path) -> str:
    return path.read_text().strip()
