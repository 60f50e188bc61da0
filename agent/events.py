"""The append-only event log of a run: what happened, in order, each line written before the next thing starts.

The terminal view, `--json`, resume and every report read these events and nothing else. A line is one JSON
object: `seq` (from 0, no gaps), `time` (seconds since the epoch), `type`, `data`. One `write` makes one line, so
a killed process leaves whole lines and at most one torn one at the end, which counts as not written. The log
survives the death of the process at any point; it is not synced to the disk, so a power cut may cost its tail.

Left out: what events mean for a run's state (`agent.session`).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class EventType(StrEnum):
    RUN_STARTED = "run_started"
    RUN_RESUMED = "run_resumed"
    SANDBOX_OPENED = "sandbox_opened"
    SANDBOX_DIED = "sandbox_died"  # in mid-run; where it says `replaced`, another one took its place
    NETWORK = "network"  # a request of a sandbox to a package index, allowed or not
    MODEL_CONNECTED = "model_connected"
    PROMPT = "prompt"
    TURN_STARTED = "turn_started"
    MODEL_RETRY = "model_retry"
    TURN_DROPPED = "turn_dropped"  # a turn that a limit or an error cut off before its end
    TURN = "turn"
    CALL_STARTED = "call_started"
    OBSERVATION = "observation"
    OBSERVED = "observed"  # the observations' ids joined the transcript
    LOOP_ENDED = "loop_ended"
    PATCH = "patch"
    CHECK_STARTED = "check_started"
    CHECK = "check"
    VERIFIED = "verified"
    DELIVERED = "delivered"
    FOLLOW_UP = "follow_up"  # said to a run that had ended
    FOLLOWED = "followed"  # that joined the transcript
    RUN_ENDED = "run_ended"
    # Only ever shown live, never written:
    PROGRESS = "progress"
    DELTA = "delta"


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
LIVE_ONLY = frozenset({EventType.PROGRESS, EventType.DELTA})


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `seq` is -1 for events that are only shown live."""

    seq: int
    time: float
    type: EventType
    data: dict[str, Any]
    text: str = field(default="", compare=False, repr=False)  # its JSON, on the way from the log to the listeners

    def to_json(self) -> str:
        if self.text:
            return self.text
        record = {"seq": self.seq, "time": self.time, "type": self.type, "data": self.data}
        return _encode(record)


Listener = Callable[[Event], None]


class EventLogError(Exception):
    """A log that can't be opened or doesn't hold what a log holds."""


class EventLog:
    """The open log of one run; one process has it open at a time."""

    def __init__(self, path: Path, listeners: tuple[Listener, ...] = ()) -> None:
        """Opens or creates the file, drops a torn last line, and takes the lock. Raises EventLogError."""
        self._listeners = listeners
        self.run_id = path.parent.name
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise EventLogError(
                f"{path.parent.name} is open in another process: wait for it, or stop it first"
            ) from None
        self.events = list(read_events(path))
        os.ftruncate(self._fd, _whole_length(path))

    def append(self, kind: EventType, /, **data: Any) -> Event:
        """Write one event, then tell the listeners. OSError (a full disk) goes up to the caller."""
        live = kind in LIVE_ONLY
        event = Event(-1 if live else len(self.events), round(time.time(), 3), kind, data)
        if not live:
            text = event.to_json()
            self._write((text + "\n").encode("utf-8", "backslashreplace"))
            self.events.append(event)
            event = Event(event.seq, event.time, kind, data, text)
        for listener in self._listeners:
            listener(event)
        return event

    def _write(self, line: bytes) -> None:
        start = os.fstat(self._fd).st_size
        try:
            if os.write(self._fd, line) != len(line):
                raise OSError(28, "No space left on device")
        except OSError:
            os.ftruncate(self._fd, start)
            raise

    def of_type(self, kind: EventType) -> list[Event]:
        return [event for event in self.events if event.type is kind]

    def last(self, kind: EventType) -> Event | None:
        return next((event for event in reversed(self.events) if event.type is kind), None)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _whole_length(path: Path) -> int:
    content = path.read_bytes()
    return content.rfind(b"\n") + 1


def read_events(path: Path) -> Iterator[Event]:
    """The whole lines of a log. Raises EventLogError for a line that is no event or out of order."""
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
                event = Event(record["seq"], record["time"], EventType(record["type"]), record["data"])
            except (ValueError, KeyError, TypeError) as error:
                raise EventLogError(f"{path}, line {number + 1}: not an event ({error})") from None
            if event.seq != number:
                raise EventLogError(f"{path}, line {number + 1}: event {event.seq}, expected {number}")
            yield event
