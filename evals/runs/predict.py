"""One attempt of the agent at one instance: from the issue's text to a patch and what it took.

What the agent is given is in `Task`, which has no gold field; nothing else of an instance gets here. The agent's run
lies in a folder of the attempt, so that whoever goes on with it (the same process, or another after a kill -9) finds
it and resumes it. Left out: environments, retries, judging (`pipeline`).
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent import runs
from agent.ends import InputProblem, Outcome, RunProblem
from agent.events import Event, EventLogError, EventType, Listener, read_events
from agent.fix import FixResult, fix, resume
from agent.request import FixRequest
from agent.runs import RunFolder
from evals.instance import Instance
from evals.runs.manifest import Settings, generation_of
from evals.runs.record import Predicted, Usage
from evals.runs.sending import read_patch

if TYPE_CHECKING:
    from evals.environments.base import InstanceEnvironment

SCRIPTED: Final = "scripted"  # the target of the bundled set's own script
_OURS: Final = frozenset({Outcome.VERIFIED, Outcome.UNVERIFIED, Outcome.NO_PATCH, Outcome.LIMIT})
"""Ends that are the model's doing. All others are the infrastructure's."""


class PredictionFailed(Exception):
    """The infrastructure failed, so the model hasn't had its say. `again`: whether another try may help."""

    def __init__(self, message: str, *, again: bool = True) -> None:
        super().__init__(message)
        self.again = again


@dataclass(frozen=True, slots=True)
class Task:
    """All that the agent may know of an instance."""

    instance_id: str  # for names of folders; the agent isn't told
    issue: str

    @classmethod
    def of(cls, instance: Instance) -> Task:
        return cls(instance.instance_id, instance.issue)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an attempt came to. `run`: the agent's folder; `patch`: text, "" where there is none."""

    predicted: Predicted
    patch: str
    run: Path


def target_of(model: str) -> str:
    """What `agent fix --model` would be given; `scripted` is the bundled set's script, on whatever machine."""
    if model != SCRIPTED:
        return model
    from evals.mini.script import mini_script

    return f"script:{mini_script()}"


async def predict(
    task: Task,
    environment: InstanceEnvironment,
    settings: Settings,
    attempt: int,
    folder: Path,
    listeners: tuple[Listener, ...] = (),
) -> Prediction:
    """Run the agent, or go on with the run that lies in `folder`. PredictionFailed; cancelled when it was stopped."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with runs.kept_in(folder):
        try:
            result = await _gone_on(listeners)
            if result is None:
                result = await fix(_request(task, environment, settings, attempt, folder), listeners)
        except RunProblem as problem:
            raise PredictionFailed(str(problem)) from None
        except EventLogError as problem:
            _set_aside(folder)
            raise PredictionFailed(f"the run's log can't be gone on with: {problem}") from None
        return _prediction(result, RunFolder(folder / result.run))


async def _gone_on(listeners: tuple[Listener, ...]) -> FixResult | None:
    """The run that an earlier process or try began, at its end; None where there is none that can be used."""
    begun = runs.all_runs()
    if not begun:
        return None
    try:
        return await resume(begun[-1].id, listeners)
    except InputProblem:  # it was cut off before it had begun, or a process that is held up has it: a new one
        return None


def _request(
    task: Task, environment: InstanceEnvironment, settings: Settings, attempt: int, folder: Path
) -> FixRequest:
    issue = folder / "issue.md"
    issue.write_text(task.issue, encoding="utf-8", errors="replace")
    return FixRequest(
        repository=environment.repository,
        issue=str(issue),
        model=target_of(settings.model),
        sandbox=environment.kind,
        image=environment.image or None,
        workdir=environment.workdir if environment.kind != "none" else None,
        network="none",
        revision=environment.base_commit,
        allow_dirty=True,
        limits=settings.limits,
        generation=generation_of(settings, task.instance_id, attempt),
        patience=settings.patience,
    )


def _prediction(result: FixResult, run: RunFolder) -> Prediction:
    if result.outcome is Outcome.INTERRUPTED:
        raise asyncio.CancelledError
    events = list(read_events(run.events))
    if result.outcome not in _OURS:
        raise PredictionFailed(result.message)
    usage = usage_of(events)
    if not usage.steps and result.outcome is Outcome.LIMIT:  # it never got its turn: the wait was ours
        shutil.rmtree(run.path, ignore_errors=True)
        raise PredictionFailed(f"before its first turn: {result.message}")
    patch = read_patch(run.patch)
    predicted = Predicted(
        outcome=result.outcome,
        end=_last(events, EventType.LOOP_ENDED, "end"),
        message=result.message,
        usage=usage,
        edited=_edited(events),
    )
    return Prediction(predicted, patch, run.path)


def usage_of(events: list[Event]) -> Usage:
    """Of all turns together. The cost is what is known of it, None where no turn's is."""
    turns = [event.data["usage"] for event in events if event.type is EventType.TURN]
    costs = [turn["cost"] for turn in turns if turn.get("cost") is not None]
    return Usage(
        steps=len(turns),
        prompt_tokens=sum(turn["prompt"] for turn in turns),
        cached_tokens=sum(turn["cached"] or 0 for turn in turns),
        completion_tokens=sum(turn["completion"] for turn in turns),
        cost=round(sum(costs), 6) if costs else None,
        seconds=round(_worked(events), 3),
    )


def _worked(events: list[Event]) -> float:
    """Seconds that processes were at it: pauses between a kill and the resumption don't count."""
    total, before = 0.0, None
    for event in events:
        if before is not None and event.type is not EventType.RUN_RESUMED:
            total += max(event.time - before, 0.0)
        before = event.time
    return total


def _edited(events: list[Event]) -> tuple[str, ...]:
    last = next((event for event in reversed(events) if event.type is EventType.PATCH), None)
    return tuple(path for _, path in last.data["files"]) if last else ()


def _last(events: list[Event], kind: EventType, field: str) -> str:
    return next((str(event.data[field]) for event in reversed(events) if event.type is kind), "")


def _set_aside(folder: Path) -> None:
    """A damaged run is no hindrance to a new one, and stays to be looked at."""
    for run in runs.all_runs():
        run.path.rename(folder / f"damaged-{run.id}")
        (folder / f"damaged-{run.id}" / "events.jsonl").rename(folder / f"damaged-{run.id}" / "events.damaged")


def phases(event: Event) -> dict[str, Any] | None:
    """What a live view shows of an agent's event; None for those it doesn't need."""
    match event.type:
        case EventType.TURN:
            usage = event.data["usage"]
            return {
                "turn": event.data["turn"] + 1,
                **{name: usage[name] for name in ("prompt", "cached", "completion")},
            }
        case EventType.CALL_STARTED:
            return {"doing": f"running {event.data['name']}"}
        case EventType.CHECK_STARTED:
            return {"doing": "verifying"}
        case EventType.TURN_STARTED:
            return {"doing": "thinking"}
        case EventType.PROGRESS:
            return {"doing": event.data["text"]}
        case _:
            return None
