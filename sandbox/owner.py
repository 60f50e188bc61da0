"""Who a sandbox belongs to, so that nothing is left behind when its owner was killed.

An owner is a process: its pid, its start time (a pid is used again, the pair isn't), the machine's boot and the
pid namespace that the pid is valid in. Left out: the removing, which each kind does for itself.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_PROC = Path("/proc")


def start_ticks(pid: int) -> int | None:
    """Clock ticks between boot and the process's start; None when there is no such process."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _place() -> str:
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    place = f"{boot} {(_PROC / 'self/ns/pid').stat().st_ino}"
    return hashlib.sha256(place.encode()).hexdigest()[:12]


def owner() -> str:
    """This process, as text for a label or a folder's name: `pid-ticks-place`."""
    return f"{os.getpid()}-{start_ticks(os.getpid())}-{_place()}"


def is_gone(text: str) -> bool:
    """True when the owner is known to have ended.

    A pid of another machine or pid namespace says nothing here, so such an owner counts as alive.
    """
    pid, _, rest = text.partition("-")
    ticks, _, place = rest.partition("-")
    if not pid.isdigit() or place != _place():
        return False
    return str(start_ticks(int(pid))) != ticks


def is_elsewhere(text: str) -> bool:
    """True for an owner of another machine, pid namespace or boot: whether it lives can't be known by its pid."""
    pid, _, rest = text.partition("-")
    ticks, _, place = rest.partition("-")
    return pid.isdigit() and ticks.isdigit() and bool(place) and place != _place()


def boot_time() -> float:
    """Seconds since 1970 at which this machine was started."""
    lines = (_PROC / "stat").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("btime ")))
