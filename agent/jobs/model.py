"""What is said about jobs: the job itself, how it ended, who works. No database here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_FILE_BYTES: Final = 512 * 1024 * 1024  # half of what a Postgres value holds
_ID: Final = re.compile(r"[A-Za-z0-9._+/-]{1,400}")
_NAME: Final = re.compile(r"[a-z0-9_-]{1,60}")


class JobsError(Exception):
    """Something about the queue itself, not about what a job does."""


class JobsMissing(JobsError):
    """The packages that jobs need aren't installed."""


class JobsBusy(JobsError):
    """This process works on a queue already: the engine is one per process."""


class JobsUnavailable(JobsError):
    """The database couldn't be reached for longer than a caller waits."""


class JobUnknown(JobsError):
    """Nobody enqueued a job of that id."""


class FileTooLarge(JobsError):
    """A file that is too big to go home through the database."""


class StepFailed(JobsError):
    """A step raised: the same for whoever runs it and for whoever reads the record later."""

    def __init__(self, step: str, kind: str, message: str) -> None:
        super().__init__(f"step {step!r}: {kind}: {message}")
        self.step, self.kind, self.message = step, kind, message  # kind: the exception's class name


class JobFailed(JobsError):
    """A job ended without a result."""

    def __init__(self, job: str, message: str) -> None:
        super().__init__(f"job {job}: {message}")
        self.job, self.message = job, message


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work. `id` is its identity for ever: what is known already isn't enqueued again."""

    id: str  # letters, digits and ._+-/
    kind: str  # lower-case letters, digits, - and _
    payload: Mapping[str, Any]  # JSON

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(f"job id {self.id!r}: 1 to 400 letters, digits and ._+-/ are allowed")
        check_name("kind", self.kind)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended: with a result, or with an error in a sentence."""

    id: str
    result: Any = None  # JSON
    error: str | None = None
    cancelled: bool = False

    def value(self) -> Any:
        """The result; raises JobFailed when there is none."""
        if self.error is not None:
            raise JobFailed(self.id, self.error)
        return self.result


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker as its last heartbeat showed it."""

    name: str
    machine: str
    pid: int
    last_seen: float  # seconds since the epoch, by the database's clock
    running: int  # jobs


def check_name(what: str, name: str, shortest: int = 1) -> None:
    """Raises ValueError for what can't be part of a queue's name."""
    if not _NAME.fullmatch(name) or len(name) < shortest:
        raise ValueError(f"{what} {name!r}: {shortest} to 60 lower-case letters, digits, - and _ are allowed")
