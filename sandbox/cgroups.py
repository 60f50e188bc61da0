"""A control group per sandbox: memory, processes, CPU. Version 1 (and hybrid) and version 2.

The group lies under `patchwright/` in each hierarchy and carries its owner in its name, so that what a killed
process left can be found. Left out: what happens where no group can be made (`sandbox.guest` watches then).
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from sandbox.owner import is_gone, owner
from sandbox.policy import Limits

ROOT = Path("/sys/fs/cgroup")
PARENT = "patchwright"
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Group:
    """One sandbox's folders, one per hierarchy (a single one in version 2)."""

    folders: tuple[Path, ...]

    @property
    def process_files(self) -> tuple[Path, ...]:
        """Writing a pid to each of these puts the process into the group."""
        return tuple(folder / "cgroup.procs" for folder in self.folders)

    @property
    def oom_file(self) -> Path | None:
        """Where the kernel counts what it killed for lack of memory (`oom_kill N`)."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                if (folder / name).exists():
                    return folder / name
        return None

    def oom_kills(self) -> int:
        file = self.oom_file
        words = file.read_text().split() if file else []
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0

    def remove(self, patience: float = 5.0) -> bool:
        """Kill what is left in it and remove it. False when something in it won't die."""
        end = time.monotonic() + patience
        left = list(self.folders)
        while left:
            for folder in left:
                _kill(folder)
            left = [folder for folder in left if not _rmdir(folder)]
            if time.monotonic() > end:
                return False
            if left:
                time.sleep(0.005)
        for folder in self.folders:
            _rmdir(folder.parent)  # stays while other sandboxes live
        return True


def make_group(limits: Limits, root: Path = ROOT) -> Group | None:
    """A group with the limits set; None where we may not make one or memory or processes can't be bounded."""
    name = f"{owner()}-{uuid.uuid4().hex[:8]}"
    version_2 = (root / "cgroup.controllers").exists()
    hierarchies = (root,) if version_2 else tuple(root / controller for controller in ("memory", "pids", "cpu"))
    group = Group(tuple(hierarchy / PARENT / name for hierarchy in hierarchies))
    try:
        for folder in group.folders:
            if not (folder.parents[1] / "cgroup.procs").exists():
                raise FileNotFoundError(folder.parents[1])
            _make(folder, root if version_2 else None)
            for file, value, needed in _settings(folder, limits, version_2):
                if needed or (folder / file).exists():
                    (folder / file).write_text(value)
    except OSError:
        group.remove()
        return None
    return group


def _make(folder: Path, root: Path | None) -> None:
    """The folder and the one above, which another process's last sandbox may take away at any moment. Raises OSError.

    `root` in version 2, where controllers are handed down.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            folder.parent.mkdir(exist_ok=True)
            for level in (root, folder.parent) if root is not None else ():
                (level / "cgroup.subtree_control").write_text("+memory +pids +cpu")
            folder.mkdir()
            return
        except FileNotFoundError:
            if not tries_left:
                raise


def _settings(folder: Path, limits: Limits, version_2: bool) -> list[tuple[str, str, bool]]:
    """File, value, and whether the group is useless without it."""
    total, quota = str(limits.total_memory), str(int(limits.cpus * 100_000))
    memory, swap = ("memory.max", ("memory.swap.max", "0", False))
    if not version_2:  # there the second limit is for memory and swap together
        memory, swap = ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", total, False))
    settings = {
        "memory": [(memory, total, True), swap],
        "pids": [("pids.max", str(limits.processes), True)],
        "cpu": [("cpu.max", f"{quota} 100000", True) if version_2 else ("cpu.cfs_quota_us", quota, True)],
    }
    if version_2:
        return [line for lines in settings.values() for line in lines]
    return settings[folder.parents[1].name]


def stale(root: Path = ROOT) -> list[Path]:
    """The groups of owners that are gone."""
    parents = [root / PARENT, *(root / hierarchy / PARENT for hierarchy in ("memory", "pids", "cpu"))]
    return [
        folder
        for parent in parents
        if parent.is_dir()
        for folder in parent.iterdir()
        if folder.is_dir() and is_gone(folder.name.rpartition("-")[0])
    ]


def _kill(folder: Path) -> None:
    try:
        pids = (folder / "cgroup.procs").read_text().split()
    except OSError:
        return
    for pid in filter(int, pids):  # 0: one that can't be named from here; to kill it would kill our own group
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue


def _rmdir(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
