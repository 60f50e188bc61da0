"""The files of a run, found by what the database says of its request: log, patch, and what became of it.

No name from outside becomes part of a path: ids are looked up first. Left out: the endpoints (`service.api.routes`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from agent.events import EventLogError, read_events
from agent.runs import RunFolder
from service.bot.running import run_in
from service.bot.story import Story, story_of
from service.store import ACTIVE, Request, Store

_PAUSE: Final = 0.3  # seconds between two looks at a log that grows
_READ: Final = 1 << 20  # bytes of it at a time


def folder_of(runs: Path, store: Store, request: Request) -> RunFolder | None:
    """The run of a request, or the one that its conversation has now; None where there is none on this machine."""
    thread = store.thread(request.repository_id, request.wish.number)
    number = thread.number if thread else request.wish.number
    if request.run:
        for folder in runs.glob(f"{request.repository_id}-{number}-*"):
            if (folder / request.run).is_dir():
                return run_in(folder)
    attempts = sorted(runs.glob(f"{request.repository_id}-{number}-*"), key=lambda one: one.stat().st_mtime)
    return run_in(attempts[-1]) if attempts and request.state in ACTIVE else None


def story(runs: Path, store: Store, request: Request) -> Story | None:
    """What the run came to so far. None for none, or for a log that can't be read."""
    folder = folder_of(runs, store, request)
    if folder is None:
        return None
    try:
        return story_of(folder.id, read_events(folder.events))
    except (EventLogError, OSError):
        return None


async def lines(file: Path, after: int, going: AsyncIterator[bool]) -> AsyncIterator[tuple[int, str]]:
    """(seq, line) of a log behind event `after`, then those that come, until `going` says that none will.

    A line that isn't whole yet is waited for.
    """
    seq, rest = -1, b""
    with file.open("rb") as log:
        while True:
            more = await anext(going, False)
            while data := await asyncio.to_thread(log.read, _READ):
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    seq += 1
                    if seq > after:
                        yield seq, line.decode("utf-8", "replace")
            if not more:
                return
            await asyncio.sleep(_PAUSE)
