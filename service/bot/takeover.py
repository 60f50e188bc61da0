"""A run's log is taken from a process that lost the run and does not know: frozen, or cut off from the database.

Whoever has the job's claim owns the run. A process that lost it holds the log's lock until it ends; a frozen one for as
long as it is frozen. So the owner waits for a while and then goes on with a copy of the log in its place: what the
other one still writes goes into a file that nobody reads. The run's other files are named by their content, or are
written anew by the owner. Left out: who has the claim (`agent.jobs`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path
from typing import Final

PATIENCE: Final = 15.0  # seconds; a process that only ends is through sooner
_PAUSE: Final = 0.25


async def taken_over(log: Path, patience: float = PATIENCE) -> None:
    """Returns when nobody else has `log` open for writing. Raises OSError."""
    until = time.monotonic() + patience
    while _is_held(log):
        if time.monotonic() >= until:
            await asyncio.to_thread(_replace, log)
            return
        await asyncio.sleep(_PAUSE)


def _is_held(log: Path) -> bool:
    descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _replace(log: Path) -> None:
    """A copy of its whole lines takes its name; the log itself stays beside it, under another one."""
    content = log.read_bytes()
    new = log.with_name(f"{log.name}.new")
    new.write_bytes(content[: content.rfind(b"\n") + 1])
    new.chmod(0o600)
    log.with_name(f"{log.name}.lost-{time.time_ns()}").hardlink_to(log)
    new.replace(log)
