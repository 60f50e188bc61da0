"""Whose memory a sandbox is: its processes, the engine's beside it, and what it adds to ours.

Proportional sizes: a page that n processes share counts an n-th for each. Left out: the kernel's own memory for
namespaces and mounts, and the files in a sandbox's folders, which lie in memory too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from probe import below

from sandbox.machine import GuestSandbox

_ENGINES = ("dockerd", "containerd", "podman")


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB; nan for what can't be seen from here."""

    HEAD: ClassVar[tuple[str, ...]] = ("guest and what belongs to it", "the engine's shim", "engine", "our process")

    inside: float
    shim: float
    engine: float
    ours: float

    def less(self, other: Memory) -> Memory:
        return Memory(self.inside - other.inside, self.shim, self.engine - other.engine, self.ours - other.ours)

    def share(self, count: int) -> Memory:
        return Memory(self.inside / count, self.shim / count, self.engine / count, self.ours / count)

    def shown(self, digits: int = 1) -> list[str]:
        return [
            f"{round(value, digits) + 0.0:.{digits}f}" for value in (self.inside, self.shim, self.engine, self.ours)
        ]


def weighed(sandboxes: Sequence[GuestSandbox]) -> Memory:
    """Of these sandboxes together; what belongs to no container counts as inside when it descends from us."""
    first = [pid for sandbox in sandboxes for pid in _container_pids(sandbox)]
    shims = {parent for pid in first if (parent := _parent(pid)) > 1 and not _is_engine(parent)}
    inside = set(below(os.getpid())).union(first, *(below(pid) for pid in first))
    engines = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _is_engine(int(path.name))]
    return Memory(_pss(inside), _pss(shims), _pss(engines), _pss([os.getpid()]))


def _container_pids(sandbox: GuestSandbox) -> list[int]:
    container = getattr(sandbox._machine, "container", None)
    if container is None:
        return []
    container.reload()
    pid = int(container.attrs["State"]["Pid"])
    return [pid] if Path(f"/proc/{pid}").exists() else []


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _is_engine(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() in _ENGINES
    except OSError:
        return False


def _pss(pids: Iterable[int]) -> float:
    """MiB of processes that may end meanwhile."""
    total = 0
    for pid in pids:
        try:
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        except OSError:
            continue
        total += int(found[1]) if found else 0
    return total / 1024
