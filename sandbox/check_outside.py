"""What the host sees of a process that runs in a sandbox: who it is there, and which limits the kernel holds it to.

The process is found by a word on its command line. Where it can't be seen (an engine elsewhere, a virtual machine)
there is nothing to tell. Left out: what is seen inside (`sandbox.check_probe`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 writes a number that nobody has memory for
_CONTAINER = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Outside:
    """One process of a sandbox, from the host; None: no limit, or it can't be read."""

    pid: int
    uid: int
    cap_eff: int
    file_uid: int | None  # owner of a file that was made inside
    memory: int | None
    swap: int | None  # memory and swap together
    processes: int | None
    cpus: float | None
    groups: str  # its control groups, as the kernel writes them

    @property
    def container(self) -> str | None:
        found = _CONTAINER.search(self.groups)
        return found[0] if found else None


def find(word: str) -> int | None:
    """The process with this word on its command line that the others descend to: the newest."""
    pids = []
    for folder in PROC.iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if word.encode() in (folder / "cmdline").read_bytes():
                    pids.append(int(folder.name))
            except OSError:
                continue
    return max(pids, default=None)


def look(pid: int, file: str) -> Outside | None:
    """`file`: an absolute path inside. None when the process has ended meanwhile."""
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
        groups = (PROC / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    try:
        owner = (PROC / str(pid) / "root" / file.lstrip("/")).lstat().st_uid
    except OSError:
        owner = None
    memory = _limit(groups, "memory", ("memory.limit_in_bytes", "memory.max"))
    return Outside(
        pid,
        int(fields["Uid"].split()[1]),
        int(fields["CapEff"], 16),
        owner,
        memory,
        _swap(groups, memory),
        _limit(groups, "pids", ("pids.max",)),
        _cpus(groups),
        groups,
    )


def _folders(groups: str, controller: str) -> list[Path]:
    """The control groups that hold a process, its own first."""
    for line in groups.splitlines():
        number, controllers, path = line.split(":", 2)
        top = CGROUPS if number == "0" else CGROUPS / controller
        if number == "0" and not (CGROUPS / "cgroup.controllers").exists():
            continue
        if number == "0" or controller in controllers.split(","):
            own = top / path.lstrip("/")
            return [own, *(parent for parent in own.parents if parent.is_relative_to(top))]
    return []


def _values(groups: str, controller: str, names: tuple[str, ...]) -> list[str]:
    found = []
    for folder in _folders(groups, controller):
        for name in names:
            try:
                found.append((folder / name).read_text().strip())
            except OSError:
                continue
    return found


def _limit(groups: str, controller: str, names: tuple[str, ...]) -> int | None:
    numbers = [int(text) for text in _values(groups, controller, names) if text.isdigit()]
    return min((number for number in numbers if number < _UNLIMITED), default=None)


def _swap(groups: str, memory: int | None) -> int | None:
    """Memory and swap together; without swap on this machine that is the memory."""
    together = _limit(groups, "memory", ("memory.memsw.limit_in_bytes",))
    if together is not None or memory is None:
        return together
    alone = _limit(groups, "memory", ("memory.swap.max",))
    if alone is not None:
        return memory + alone
    return memory if len((PROC / "swaps").read_text().splitlines()) < 2 else None


def _cpus(groups: str) -> float | None:
    """Cores: the smallest quota on the way up."""
    shares = []
    for folder in _folders(groups, "cpu"):
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except (OSError, ValueError):
            continue
        if quota.strip().isdigit():
            shares.append(int(quota) / int(period))
    return min(shares, default=None)
