"""One run of `agent.fix.fix` in this process, with the CPU time at the start of each turn; printed as JSON.

    python probe.py REPO URL SANDBOX STEPS

Counted are all threads of this process, and those of the guest and of what stands between us and it; the short-lived
processes of the commands themselves are not (`step_overhead` counts these over whole runs). Events are written as
JSON as `agent fix --json` writes them.
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


def peak(pid: int) -> float:
    """MiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


class Probe:
    def __init__(self) -> None:
        self.guests: list[int] = []
        self.rows: list[tuple[int, int, int]] = []
        self.peaks = (0.0, 0.0)

    def __call__(self, event: Event) -> None:
        if event.type is EventType.TURN_STARTED:
            if not self.rows:
                self.guests = below(os.getpid())
            guests = sum(cpu(pid) for pid in self.guests)
            self.rows.append((time.process_time_ns(), guests, time.monotonic_ns()))
            self.peaks = (peak(os.getpid()), sum(peak(pid) for pid in self.guests))


def main() -> None:
    repository, url, sandbox, steps = sys.argv[1:]
    probe = Probe()
    request = FixRequest(repository, "Nothing is wrong", url, sandbox, limits=Limits(steps=int(steps)))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        asyncio.run(fix(request, (*listeners(as_json=True), probe)))
    print(json.dumps({"rows": probe.rows, "peaks": probe.peaks}))


if __name__ == "__main__":
    main()
