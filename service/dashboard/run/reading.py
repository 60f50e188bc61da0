"""A run's log read as it grows: one reader for all who look at the run, each of whom sees it as it is then.

What was read isn't read again. A line that can't be read ends what is shown, and the view says so. Left out: what
events mean (`timeline`).
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.events import Event, EventType
from agent.runs import RunFolder
from service.dashboard.run.timeline import Timeline
from service.dashboard.run.views import RunView, Step

_READ: Final = 1 << 20  # bytes at a time
_KEPT: Final = 24  # runs whose views are kept
_KNOWN: Final = frozenset(EventType)
MOST_WHOLE: Final = 300_000  # characters of one text of a step that is shown whole
_ENDS_STEP: Final = frozenset({EventType.TURN, EventType.LOOP_ENDED, EventType.FOLLOW_UP})


class Reader:
    """One log. For any number of threads."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._timeline, self._at, self._seq = Timeline(), 0, -1
        self._view = self._timeline.view()

    def view(self) -> RunView:
        """The run as it is now; the same object as before where nothing was added. Blocks while it reads.

        A log that is missing is an empty one.
        """
        with self._lock:
            try:
                size = self.folder.events.stat().st_size
            except OSError:
                return self._view
            if size < self._at:  # another log by this name
                self._begin()
            if size > self._at and not self._timeline.damage:
                before = self._at
                self._read()
                if self._at != before or self._timeline.damage:
                    self._view = self._timeline.view()
            return self._view

    def _read(self) -> None:
        for at, line in _lines(self.folder.events, self._at):
            event = _event(line, self._seq + 1)
            if event is None:
                self._timeline.damage = f"event {self._seq + 1} can't be read; what follows it isn't shown"
                return
            self._seq, self._at = event[0], at + len(line)
            if event[1] is not None:
                self._timeline.take(event[1], at)

    def step(self, number: int) -> Step | None:
        """A step with its texts as a whole, up to 300,000 characters of each. Blocks."""
        short = next((one for one in self.view().steps if one.number == number), None)
        if short is None:
            return None
        timeline = Timeline(MOST_WHOLE)
        for at, line in _lines(self.folder.events, short.at):
            event = _event(line, None)
            if event is None or (at > short.at and event[1] is not None and event[1].type in _ENDS_STEP):
                break
            if event[1] is not None:
                timeline.take(event[1], at)
        (found, *_) = timeline.view().steps
        calls = (
            replace(whole, change=call.change, answer=call.answer)
            for whole, call in zip(found.calls, short.calls, strict=True)
        )
        return replace(found, calls=tuple(calls))


def _lines(path: Path, at: int) -> Iterator[tuple[int, bytes]]:
    """(place, line) of the whole lines from a place on."""
    with path.open("rb") as log:
        log.seek(at, os.SEEK_SET)
        rest: list[bytes] = []
        while data := log.read(_READ):
            first, *others = data.split(b"\n")
            rest.append(first)
            for other in others:
                line = b"".join(rest) + b"\n"
                yield at, line
                at += len(line)
                rest = [other]


def _event(line: bytes, expected: int | None) -> tuple[int, Event | None] | None:
    """(number, the event if it is of a kind that is known); None for no event, or one out of order."""
    try:
        record = json.loads(line)
        seq, kind = record["seq"], record["type"]
        if not isinstance(seq, int) or (expected is not None and seq != expected):
            return None
        if kind not in _KNOWN:
            return seq, None
        if not isinstance(record["data"], dict):
            return None
        return seq, Event(seq, float(record["time"]), EventType(kind), record["data"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


class Readers:
    """The readers of the runs that were looked at last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, Reader] = OrderedDict()

    def of(self, folder: RunFolder) -> Reader:
        with self._lock:
            found = self._kept.pop(folder.path, None) or Reader(folder)
            self._kept[folder.path] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found
