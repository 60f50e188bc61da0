"""What a run came to, read from its events for the people who wait for it: cause, change, evidence, limits, cost.

Left out: how it is told (`service.bot.texts`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from agent.ends import Outcome
from agent.events import Event, EventType

MOST_CHECKS = 12


@dataclass(frozen=True, slots=True)
class CheckSeen:
    """One command, run without and with the patch. Exit codes are None where it didn't end by itself."""

    command: str
    source: str
    verdict: str  # agent.verify.Verdict
    before: int | None
    after: int | None
    output_before: str
    output_after: str


@dataclass(frozen=True, slots=True)
class Used:
    """What was spent on it. Tokens; `cost` in US dollars, None where no price is known."""

    turns: int = 0
    prompt: int = 0
    cached: int | None = 0  # None: the host doesn't say
    written: int = 0
    cost: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Story:
    """A run that has ended, or what there is of one so far."""

    run: str
    base: str = ""  # commit
    outcome: Outcome | None = None
    message: str = ""
    summary: str = ""  # the model's words
    files: tuple[tuple[str, str], ...] = ()  # (status letter, path)
    applies: bool | None = None
    checks: tuple[CheckSeen, ...] = ()
    used: Used = field(default_factory=Used)
    model: str = ""
    sandbox: str = ""
    network: str = "none"
    notes: tuple[str, ...] = ()  # what the checkout lacked: submodules, large files
    said: int = 0  # follow-ups
    earlier: tuple[str, ...] = ()  # summaries before each follow-up, oldest first

    @property
    def verified(self) -> bool:
        return self.outcome is Outcome.VERIFIED

    @property
    def has_patch(self) -> bool:
        return bool(self.files)


def story_of(run: str, events: Iterable[Event]) -> Story:
    """Of a run's whole log, in order. What a follow-up did again replaces what was there before."""
    found: dict[str, Any] = {"run": run}
    used = _Counting()
    checks: list[CheckSeen] = []
    for event in events:
        used.take(event)
        match event.type:
            case EventType.RUN_STARTED:
                found["base"], found["notes"] = event.data["base"]["commit"], tuple(event.data["base"]["notes"])
            case EventType.MODEL_CONNECTED:
                found["model"] = event.data["name"]
            case EventType.SANDBOX_OPENED:
                found["sandbox"], found["network"] = event.data["kind"], event.data.get("network", "none")
            case EventType.OBSERVATION if event.data["ends_run"]:
                found["summary"] = str(event.data["facts"].get("summary", ""))
            case EventType.FOLLOW_UP:
                found["said"] = found.get("said", 0) + 1
                if found.get("summary"):
                    found["earlier"] = (*found.get("earlier", ()), found["summary"])
                found |= {"files": (), "applies": None, "outcome": None, "summary": ""}
            case EventType.PATCH:
                checks.clear()
                found["files"] = tuple((status, path) for status, path in event.data["files"])
            case EventType.CHECK if event.data["kind"] == "apply":
                found["applies"] = event.data["passed"]
            case EventType.CHECK:
                checks.append(_check(event.data))
            case EventType.RUN_ENDED:
                found["outcome"], found["message"] = Outcome(event.data["outcome"]), event.data["message"]
            case _:
                pass
    kept = checks if found.get("files") else []
    return Story(**found, checks=tuple(kept[:MOST_CHECKS]), used=used.total())


def _check(data: dict[str, Any]) -> CheckSeen:
    before, after = data["before"], data["after"]
    return CheckSeen(
        data["command"],
        data["source"],
        data["verdict"],
        before["exit_code"] if before["end"] == "exited" else None,
        after["exit_code"] if after["end"] == "exited" else None,
        before["output"],
        after["output"],
    )


class _Counting:
    def __init__(self) -> None:
        self._turns = self._prompt = self._cached = self._written = 0
        self._cost, self._priced, self._says_cached = 0.0, False, True
        self._seconds, self._last = 0.0, None  # type: float, float | None

    def take(self, event: Event) -> None:
        # Time between two events counts, unless nobody was at work: behind an end, or a process that died.
        if self._last is not None and event.type not in (EventType.RUN_RESUMED, EventType.FOLLOW_UP):
            self._seconds += max(0.0, event.time - self._last)
        self._last = event.time
        if event.type is not EventType.TURN:
            return
        usage = event.data["usage"]
        self._turns += 1
        self._prompt += usage["prompt"]
        self._written += usage["completion"]
        prefix = event.data.get("prefix") or {}
        self._says_cached = self._says_cached and prefix.get("cached", usage["cached"]) is not None
        self._cached += usage["cached"] or 0
        if (cost := usage.get("cost")) is not None:
            self._cost, self._priced = self._cost + cost, True

    def total(self) -> Used:
        cached = self._cached if self._says_cached else None
        cost = self._cost if self._priced else None
        return Used(self._turns, self._prompt, cached, self._written, cost, self._seconds)
