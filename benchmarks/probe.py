"""One run of `agent.fix.fix` in this process, with the CPU time at the start of some turns; printed as JSON.

    python probe.py REPO URL SANDBOX STEPS TURN,TURN...

Counted are all threads of this process, those of the guest and of what stands between us and it, and, to ten
milliseconds and therefore only good for many steps together, the commands' processes that these have waited for.
Events are written as JSON as `agent fix --json` writes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from pathlib import Path

from agent.events import Event, EventType
from agent.fix import fix
from agent.limits import Limits
from agent.request import FixRequest
from cli.view import listeners


def below(root: int) -> list[int]:
    """The processes that descend from a process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = list(children.get(root, []))
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu(pid: int) -> int:
    """Nanoseconds that a process has computed, of a precision that its `stat` doesn't have."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def waited_for(pid: int) -> int:
    """Nanoseconds of ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * (10**9 // os.sysconf("SC_CLK_TCK"))


def peak(pid: int) -> float:
    """MiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


class Probe:
    """Looks only at some turns, so that looking costs next to nothing."""

    def __init__(self, turns: set[int]) -> None:
        self.turns = turns
        self.guests: list[int] = []
        self.seen: dict[int, tuple[int, int, int, int]] = {}  # nanoseconds: this process, guests, commands, wall
        self.peaks = (0.0, 0.0)  # this process, the guests together

    def __call__(self, event: Event) -> None:
        if event.type is not EventType.TURN_STARTED or event.data["turn"] not in self.turns:
            return
        if not self.guests:
            self.guests = below(os.getpid())
        guests = sum(cpu(pid) for pid in self.guests)
        commands = sum(waited_for(pid) for pid in self.guests)
        self.seen[event.data["turn"]] = (time.process_time_ns(), guests, commands, time.monotonic_ns())
        self.peaks = (peak(os.getpid()), sum(peak(pid) for pid in self.guests))


def main() -> None:
    repository, url, sandbox, steps, turns = sys.argv[1:]
    probe = Probe({int(turn) for turn in turns.split(",")})
    request = FixRequest(repository, "Nothing is wrong", url, sandbox, limits=Limits(steps=int(steps)))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        asyncio.run(fix(request, (*listeners(as_json=True), probe)))
    print(json.dumps({"seen": probe.seen, "peaks": probe.peaks}))


if __name__ == "__main__":
    main()
