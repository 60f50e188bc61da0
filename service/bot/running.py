"""The run of a request: begun once, gone on with by whoever has its job then, told more when a request follows.

A run's folder is named after the issue and the attempt, so a process that takes the job over finds it. Left out: what
becomes of the run's work (`service.bot.work`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent import runs
from agent.ends import InputProblem, Outcome
from agent.events import Event, EventType, Listener, read_events
from agent.fix import FixResult, fix, resume
from agent.follow_up import FollowUp
from agent.limits import Limits
from agent.request import FixRequest, Generation, Patience
from agent.runs import RunFolder
from service.bot.takeover import taken_over


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What holds for each of the bot's runs; the repository has no say in it."""

    model: str
    sandbox: str = "auto"
    image: str | None = None
    network: str = "none"
    runtime: str | None = None
    builds: bool = True  # images from the default branch's own files
    limits: Limits = field(default_factory=Limits)
    generation: Generation = field(default_factory=Generation)
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run stands after a request: its id, how it ended, the tree it left ("" before it had one)."""

    run: str
    outcome: Outcome
    message: str
    base: str
    tree: str
    changed: bool  # by comparison with the base commit

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Ran:
        return cls(**{**data, "outcome": Outcome(data["outcome"])})


async def begin(
    folder: Path, mirror: Path, commit: str, issue: str, settings: RunSettings, *see: Listener, source: str = ""
) -> Ran:
    """Solve an issue, or go on with the run that an earlier process began in `folder`. Raises RunProblem; cancelled
    when it was stopped, and then goes on when it is called again. `source`: the follow-up that it is begun for, where
    the run that it was said to is gone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if run := run_in(folder):
        await taken_over(run.events)
    with runs.kept_in(folder):
        if run:
            return _ran(await resume(run.id, see, _now(settings)), folder)
        return _ran(await fix(_request(folder, mirror, commit, issue, settings, source), see), folder)


async def go_on(folder: Path, said: FollowUp, settings: RunSettings, *see: Listener) -> Ran:
    """Tell the run in `folder` more, once: `said.source` names the request, and a run that has it only goes on."""
    run = run_in(folder)
    if run is None:
        raise InputProblem(f"the run in {folder} is gone: it has to be begun again")
    await taken_over(run.events)
    known = any(
        event.type is EventType.FOLLOW_UP and event.data["source"] == said.source for event in read_events(run.events)
    )
    with runs.kept_in(folder):
        return _ran(await resume(run.id, see, _now(settings), None if known else said), folder)


def can_go_on(folder: Path, source: str) -> bool:
    """Whether there is a run to be told more. One that was begun for this very request isn't, nor one that was ended
    before its model was asked anything."""
    run = run_in(folder)
    if run is None or not any(event.type is EventType.PROMPT for event in read_events(run.events)):
        return False
    started = next(iter(read_events(run.events)))
    return Path(started.data["request"]["issue"]).name != _issue_file(source)


def left_by(run: RunFolder) -> str:
    """The tree that a run left, "" where it was cut off and may have left another than it last said."""
    tree = ""
    for event in read_events(run.events):
        if event.type is EventType.LOOP_ENDED:
            tree = str(event.data["tree"])
        elif event.type in (EventType.FOLLOW_UP, EventType.TURN_STARTED):
            tree = ""
    return tree


def run_in(folder: Path) -> RunFolder | None:
    """The run that lies in a request's folder. One that was cut off before its first event is none."""
    with runs.kept_in(folder):
        found = [run for run in runs.all_runs() if _has_begun(run)]
    return found[-1] if found else None


def _now(settings: RunSettings) -> Callable[[FixRequest], FixRequest]:
    """A run that goes on does so with the model server that there is now."""
    return lambda request: replace(request, model=settings.model, patience=settings.patience)


def _has_begun(run: RunFolder) -> bool:
    return next(iter(read_events(run.events)), None) is not None


def _ran(result: FixResult, folder: Path) -> Ran:
    if result.outcome is Outcome.INTERRUPTED:
        raise asyncio.CancelledError
    base = tree = left = ""
    for event in read_events(folder / result.run / "events.jsonl"):
        if event.type is EventType.RUN_STARTED:
            base, tree = event.data["base"]["commit"], event.data["base"]["tree"]
            left = tree
        elif event.type is EventType.LOOP_ENDED:
            left = event.data["tree"]
    return Ran(result.run, result.outcome, result.message, base, left, left != tree)


def _issue_file(source: str) -> str:
    return f"issue-{source.replace('/', '-')}.md" if source else "issue.md"


def _request(folder: Path, mirror: Path, commit: str, issue: str, settings: RunSettings, source: str) -> FixRequest:
    file = folder / _issue_file(source)  # a text may look like a path or a number
    file.write_text(issue, encoding="utf-8", errors="replace")
    return FixRequest(
        repository=str(mirror),
        issue=str(file),
        model=settings.model,
        sandbox=settings.sandbox,
        image=settings.image,
        network=settings.network,
        runtime=settings.runtime,
        revision=commit,
        limits=settings.limits,
        generation=settings.generation,
        patience=settings.patience,
    )


class Watch:
    """What a run is doing, in words for the status comment; a listener of its events."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.turn, self.doing, self.changed = 0, "getting ready", 0.0

    def __call__(self, event: Event) -> None:
        before = self.doing
        match event.type:
            case EventType.TURN_STARTED:
                self.turn, self.doing = event.data["turn"] + 1, "thinking"
            case EventType.CALL_STARTED:
                self.doing = f"running {event.data['name']}"
            case EventType.CHECK_STARTED:
                self.doing = "verifying"
            case _:
                return
        if before != self.doing:
            self.changed = self._clock()

    def words(self) -> str:
        return f"turn {self.turn}, {self.doing}" if self.turn else self.doing
