"""What is kept of one attempt at one instance: all that reports, comparisons and a resumed run read.

Written whole when the attempt is over, as JSON (`FORMAT`). Left out: the patch's own text and the logs, which lie in
the official layout beside it (`evals.runs.folder`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

FORMAT: Final = 1


class RecordBroken(ValueError):
    """A record that doesn't say what a record says."""


class Status(StrEnum):
    """How an attempt counts. Only the last isn't the model's doing, and it never leaves the denominator silently."""

    RESOLVED = "resolved"
    UNRESOLVED = "unresolved"
    NO_PATCH = "no_patch"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """Names an attempt in all of a run's places."""

    run: str
    instance_id: str
    attempt: int  # from 1

    @property
    def job(self) -> str:
        """The id of its job: the same in a resumed run, so that what is finished isn't done again."""
        return f"{self.run}/{self.instance_id}/{self.attempt}"


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt used. Tokens in counts; `cost` in US dollars, None where no price is known."""

    steps: int = 0
    prompt_tokens: int = 0  # of all turns together
    cached_tokens: int = 0  # of those, what the server had
    completion_tokens: int = 0
    cost: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the agent came to."""

    outcome: str  # agent.ends.Outcome; "given" for a prediction of somebody else
    end: str = ""  # agent.ends.End: how the loop ended
    message: str = ""
    usage: Usage = field(default_factory=Usage)
    trajectory: str = ""  # the agent's run folder, relative to the evaluation's; "" where there is none
    edited: tuple[str, ...] = ()  # files that the patch touches
    leaks: tuple[str, ...] = ()  # what the audit of the trajectory found, a sentence each


@dataclass(frozen=True, slots=True)
class Judged:
    """What the tests said."""

    report: Mapping[str, Any]  # the official report's object of this instance
    swebench: str  # the release whose rules were used
    seconds: float = 0.0
    doubt: str = ""  # why its failure may be the environment's: known flaky, gold fails too, the harness's own signs


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt, over."""

    run: str
    instance_id: str
    attempt: int
    model: str
    repo: str = ""
    difficulty: str = ""
    predicted: Predicted | None = None
    judged: Judged | None = None
    infrastructure: str = ""  # why there is no verdict, in a sentence
    tries: tuple[str, ...] = ()  # failures of the infrastructure before this one, each in a sentence
    gold_files: tuple[str, ...] = ()  # names only
    environment: Mapping[str, Any] = field(default_factory=dict)  # kind, image, digest, python, packages (a hash)
    worker: str = ""
    started: float = 0.0  # seconds since the epoch
    ended: float = 0.0

    @property
    def status(self) -> Status:
        if self.infrastructure:
            return Status.INFRASTRUCTURE
        if self.judged is None or self.judged.report.get("patch_is_None"):
            return Status.NO_PATCH
        return Status.RESOLVED if self.judged.report["resolved"] else Status.UNRESOLVED

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "status": self.status.value, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AttemptRecord:
        """RecordBroken for what `to_json` didn't make."""
        try:
            if data["format"] != FORMAT:
                raise RecordBroken(f"a record of format {data['format']!r}; this release reads {FORMAT}")
            rest = {name: value for name, value in data.items() if name not in ("format", "status")}
            rest["predicted"] = _predicted(rest["predicted"])
            rest["judged"] = Judged(**rest["judged"]) if rest["judged"] else None
            for name in ("tries", "gold_files"):
                rest[name] = tuple(rest[name])
            return cls(**rest)
        except (KeyError, TypeError) as error:
            raise RecordBroken(f"no record of an attempt: {error!r}") from error


def _predicted(data: Mapping[str, Any] | None) -> Predicted | None:
    if data is None:
        return None
    said = {**data, "usage": Usage(**data["usage"])}
    return Predicted(**{**said, "edited": tuple(said["edited"]), "leaks": tuple(said["leaks"])})
