"""What one step of a build for bubblewrap may take of this machine: memory, processes, and the disk below its layer.

What a repository's set-up says is run as it stands, so it may be a fork bomb or write without an end. Memory and
processes are the kernel's to bound where a control group can be made; the disk's free space is looked at while the
step runs. Left out: time and output (`sandbox.images.progress`), and an engine's builds (`sandbox.images.dockerfile`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox import cgroups
from sandbox.admission import machine_memory
from sandbox.policy import GIB, Limits

PROCESSES = 4096  # compilers by the dozen, and threads count
MEMORY_SHARE = 4  # parts of the machine's memory, of which a build gets all but one
LEAST_FREE = 2 * GIB  # that a build leaves on the disk
LEAST_FREE_SHARE = 50  # or this part of a disk that is small
# the files, `--`, the command: the shell puts itself there, and so all that it becomes
_JOIN = 'while [ "$1" != -- ]; do echo 0 >"$1" || exit 71; shift; done; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class Bounds:
    """Those of one step. `memory` in bytes; None where the kernel doesn't say what there is."""

    group: cgroups.Group | None
    memory: int | None

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv`, within them."""
        if self.group is None:
            return list(argv)
        return ["/bin/sh", "-c", _JOIN, "sh", *map(str, self.group.process_files), "--", *argv]

    def said(self) -> str:
        """What was hit, or nothing."""
        if self.group is None or self.memory is None or not self.group.oom_kills():
            return ""
        return f", which took more than the {self.memory / GIB:.1f} GiB of memory that a build may have"


@contextmanager
def bounds() -> Iterator[Bounds]:
    """For one step; what is left in it is killed at the end."""
    memory = build_memory()
    limits = Limits(
        memory=memory or 0, cpus=float(os.cpu_count() or 1), processes=PROCESSES,
        workdir_bytes=0, tmp_bytes=0, home_bytes=0, state_bytes=0, shm_bytes=0,
    )  # fmt: skip
    group = cgroups.make_group(limits) if memory is not None else None
    try:
        yield Bounds(group, memory)
    finally:
        if group is not None:
            group.remove()


def build_memory() -> int | None:
    """Bytes that a build may take; None where the kernel doesn't say what there is."""
    found = machine_memory()
    return None if found is None else most_of(found.total)


def most_of(memory: int) -> int:
    """What a build gets of so much memory."""
    return memory - memory // MEMORY_SHARE


def disk_watch(folder: Path) -> Callable[[], str]:
    """A function that says why a step that writes below `folder` has to end, or nothing."""

    def look() -> str:
        disk = os.statvfs(folder)
        floor = min(LEAST_FREE, disk.f_blocks * disk.f_frsize // LEAST_FREE_SHARE)
        free = disk.f_bavail * disk.f_frsize
        if free < floor:
            return f"which left {free / GIB:.1f} GiB free on the cache's disk, less than the {floor / GIB:.1f} kept"
        return ""

    return look
