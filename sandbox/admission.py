"""Sandboxes are opened while the machine has memory for them; others wait, first come, first served, and are told.

A sandbox may take up to its limits, which are far beyond what most take: bounded by their sum, a machine would run
three. So each is admitted with what it will probably take (`need_of`). What an open one takes already is seen in the
machine's free memory; only the rest of its need is held back for it. The free memory is the machine's or the own
control group's, whichever is less, and a reserve of it is never given out.

Left out: what a sandbox may take at most, which the kernel bounds, and users of the machine who don't ask here.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from sandbox.base import SandboxUnavailable
from sandbox.ledger import Entry, Ledger, default_folder
from sandbox.policy import GIB, MIB, Limits

EXPECTED_SHARE = 32  # of all that a sandbox may take, what it probably takes: 330 MiB by the default limits
LEAST_NEED = 16 * MIB  # an idle guest with its interpreter
RESERVE_SHARE = 16  # of the machine's memory, what is never given out
MOST_RESERVE = 4 * GIB
PATIENCE = 30.0  # seconds after which a process that holds sandboxes already goes by the free memory alone
ALONE_PATIENCE = 60.0  # seconds that a request waits for memory that no sandbox holds
_POLL = 0.25

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the machine, or of the control group that this process is in; bytes."""

    total: int
    available: int

    @property
    def reserve(self) -> int:
        return min(self.total // RESERVE_SHARE, MOST_RESERVE)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What somebody who waits for a sandbox is told."""

    position: int  # 1 is next
    live: int  # sandboxes that are open
    need: int  # bytes
    free: int  # bytes that may be given out now

    def __str__(self) -> str:
        place = "next in line" if self.position == 1 else f"number {self.position} in line"
        open_ones = "1 sandbox is open" if self.live == 1 else f"{self.live} sandboxes are open"
        return (
            f"waiting for {self.need // MIB} MiB of this machine's memory for a sandbox, {place}: "
            f"{max(self.free, 0) // MIB} MiB are free, {open_ones}"
        )


OnWait = Callable[[Waiting], None]
_listener: ContextVar[OnWait | None] = ContextVar("sandbox_waits", default=None)


@contextmanager
def told(on_wait: OnWait) -> Iterator[None]:
    """Within it, waits for memory are told, those of forks too."""
    token = _listener.set(on_wait)
    try:
        yield
    finally:
        _listener.reset(token)


class Place:
    """The room of an open sandbox, until it is left or its process ends."""

    def __init__(self, ledger: Ledger | None = None, number: int = 0) -> None:
        self._ledger = ledger
        self._number = number

    def measured_by(self, meter: Path | None) -> None:
        """A file that says how many bytes the sandbox takes."""
        if self._ledger is not None and meter is not None:
            with suppress(OSError):
                self._ledger.measure(self._number, str(meter))

    def leave(self) -> None:
        """Safe to call twice."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            with suppress(OSError):  # the lock is free in any case
                ledger.leave(self._number)


def need_of(limits: Limits) -> int:
    """Bytes that a sandbox with these limits will probably take."""
    return max(limits.total_memory // EXPECTED_SHARE, LEAST_NEED)


async def enter(
    limits: Limits, *, folder: Path | None = None, memory: Callable[[], Memory | None] | None = None
) -> Place:
    """Wait until there is memory for a sandbox. Raises SandboxUnavailable when there never will be.

    Where neither memory nor ledger can be read, nobody waits. Cancelling leaves nothing behind.
    """
    memory = memory or machine_memory
    now, need = memory(), need_of(limits)
    if now is None:
        return Place()
    if need > now.total - now.reserve:
        raise SandboxUnavailable(
            f"A sandbox with these limits takes about {need // MIB} MiB, and this machine has {now.total // MIB} MiB, "
            f"of which {now.reserve // MIB} MiB are kept back. Lower the sandbox's limits, or use a larger machine."
        )
    try:
        ledger = Ledger(folder or default_folder())
        number = ledger.join(need)
    except OSError:
        return Place()
    try:
        await _wait(ledger, number, need, memory)
    except OSError:
        ledger.leave(number)
        return Place()
    except BaseException:
        ledger.leave(number)
        raise
    return Place(ledger, number)


async def _wait(ledger: Ledger, number: int, need: int, memory: Callable[[], Memory | None]) -> None:
    began, position = time.monotonic(), 0
    while True:
        now, waited = memory(), time.monotonic() - began
        if now is None:
            return
        room = _Room(now, number, need, waited)
        entries = ledger.enter(number, room.may_enter)
        if entries is None:
            return
        waiting = room.waiting(entries)
        if not waiting.live and waited > ALONE_PATIENCE:
            raise SandboxUnavailable(
                f"A sandbox takes about {need // MIB} MiB, and of this machine's memory {max(waiting.free, 0) // MIB} "
                "MiB are free, though no other sandbox is open. End other programs, or lower the sandbox's limits."
            )
        listener = _listener.get()
        if listener is not None and waiting.position != position:
            listener(waiting)
        position = waiting.position
        await asyncio.sleep(_POLL)


@dataclass(frozen=True, slots=True)
class _Room:
    """One look at the memory, for one who waits."""

    memory: Memory
    number: int
    need: int
    waited: float  # seconds

    def may_enter(self, entries: Sequence[Entry]) -> bool:
        if self._patient_holder(entries):
            return self.need <= self.memory.available - self.memory.reserve
        first = min(entry.number for entry in entries if not entry.live)
        return first == self.number and self.need <= self.free(entries)

    def _patient_holder(self, entries: Sequence[Entry]) -> bool:
        """Two processes that each hold one and wait for another would wait for each other for ever."""
        holds = any(entry.live and entry.pid == os.getpid() for entry in entries)
        return holds and self.waited > PATIENCE

    def free(self, entries: Sequence[Entry]) -> int:
        held = sum(max(entry.need - _taken(entry), 0) for entry in entries if entry.live)
        return self.memory.available - self.memory.reserve - held

    def waiting(self, entries: Sequence[Entry]) -> Waiting:
        position = sum(not entry.live and entry.number <= self.number for entry in entries)
        return Waiting(position, sum(entry.live for entry in entries), self.need, self.free(entries))


def _taken(entry: Entry) -> int:
    """Bytes that an open sandbox takes by its meter; 0 where nobody says, which holds its whole need."""
    with suppress(OSError, ValueError):
        return int(Path(entry.meter).read_text()) if entry.meter else 0
    return 0


# -- what there is


def machine_memory() -> Memory | None:
    """The machine's memory, or the own control group's where that has less; None where the kernel doesn't say."""
    try:
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
        total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return None
    for limit, used in _own_groups():
        if limit < total:
            total, available = limit, min(available, limit - used)
    return Memory(total, max(available, 0))


def _own_groups() -> Iterator[tuple[int, int]]:
    """(limit, bytes in use that can't be given back) of each control group that this process is in."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _group_memory(_CGROUPS, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _group_memory(_CGROUPS / "memory", path, *names)


def _group_memory(root: Path, path: str, limit: str, usage: str, reclaimable: str) -> Iterator[tuple[int, int]]:
    folder = root / path.lstrip("/")
    for group in (folder, *folder.parents):
        with suppress(OSError, ValueError, KeyError):
            bound = int((group / limit).read_text())  # ValueError: `max`
            said = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            yield bound, int((group / usage).read_text()) - int(said[reclaimable])
        if group == root:
            return
