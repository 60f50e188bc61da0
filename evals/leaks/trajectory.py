"""The audit of a finished trajectory: whether the agent looked for the answer, and whether it found something.

What an agent wrote is data of a stranger: it is bounded, escaped and never run. Left out: what a command looks at
(`evals.leaks.looks`).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from agent.events import EventType, read_events
from evals.instance import Instance
from evals.leaks.leak import printable
from evals.leaks.looks import Known, Look, looks_of
from evals.leaks.success import shows

_MOST: Final = 40  # sentences
_MOST_COMMAND: Final = 200
_MOST_OUTPUT: Final = 256 * 1024  # characters of an observation that are read
_WRITERS: Final = ("file_text", "new_str", "insert_text", "content")


class Grade(StrEnum):
    LOOKED = "looked"
    FOUND = "found something"


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a tool and what came back. `succeeded` None: the tool doesn't say."""

    number: int  # of the turn, from 1
    tool: str
    arguments: dict[str, Any]
    output: str
    succeeded: bool | None = None

    @property
    def script(self) -> str:
        """What it ran in a shell; empty for other tools."""
        command = self.arguments.get("command")
        return command if isinstance(command, str) and "path" not in self.arguments else ""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One step that looked for the answer."""

    step: int
    grade: Grade
    what: str
    command: str  # as the agent wrote it

    def __str__(self) -> str:
        return f"step {self.step} {self.grade}: {self.what}: `{printable(self.command, _MOST_COMMAND)}`"


def audit_trajectory(events_path: Path, instance: Instance) -> tuple[str, ...]:
    """A sentence for each step that looked for the answer: `step 4 looked: ...` or `step 4 found something: ...`.

    Where the run's repository lies beside the log, its commits count as known. Raises agent.events.EventLogError for
    a log that isn't one.
    """
    steps, prompt = read_steps(events_path)
    found = list(suspicions(steps, instance, prompt=prompt, past=_past(events_path.with_name("repository.git"))))
    more = [f"and {len(found) - _MOST} more steps"] if len(found) > _MOST else []
    return (*map(str, found[:_MOST]), *more)


def read_steps(events_path: Path) -> tuple[list[Step], str]:
    """The steps of a run's log, and the texts of its prompt."""
    steps: list[Step] = []
    calls: dict[int, list[dict[str, Any]]] = {}
    prompt: list[str] = []
    for event in read_events(events_path):
        data = event.data
        if event.type is EventType.PROMPT:
            prompt += [str(message.get("content", "")) for message in data["messages"]]
        elif event.type is EventType.TURN:
            calls[data["turn"]] = data["calls"]
        elif event.type is EventType.OBSERVATION:
            call = calls[data["turn"]][data["call"]]
            code = data["facts"].get("exit_code")
            succeeded = not data["failed"] and code in (0, None)
            steps.append(Step(data["turn"] + 1, call["name"], call["arguments"], data["text"], succeeded))
    return steps, "\n".join(prompt)


def suspicions(
    steps: Iterable[Step], instance: Instance, *, prompt: str = "", past: Iterable[str] = ()
) -> Iterator[Suspicion]:
    """What of the steps looked for the answer. `past` are commits that the agent was given."""
    known = Known(instance, prompt, past)
    for step in steps:
        output = step.output[:_MOST_OUTPUT]
        looks = list(_looks(step, known))
        told = set()
        for look in looks:
            if look.what not in told:
                told.add(look.what)
                grade = Grade.FOUND if shows(look, output, step.succeeded, known) else Grade.LOOKED
                if look.if_found and grade is Grade.LOOKED:
                    continue
                yield Suspicion(step.number, grade, look.what, look.command or _shown(step))
        known.learn(_written(step), output if not looks else "")
        known.drafts += [(str(step.arguments.get("path", "")), text) for text in _texts(step)]


def _looks(step: Step, known: Known) -> Iterator[Look]:
    if step.script:
        yield from looks_of(step.script, known)
        return
    for name in ("path", "pattern"):
        value = step.arguments.get(name)
        if isinstance(value, str):
            reads = name == "path" and step.arguments.get("command", "view") == "view"
            yield from known.word(value, reads=reads, searches=name == "pattern")


def _shown(step: Step) -> str:
    said = " ".join(str(value) for value in step.arguments.values() if isinstance(value, str | int))
    return step.script or f"{step.tool} {said}"


def _written(step: Step) -> str:
    """What the agent itself wrote: names in it were not looked for."""
    documents = re.findall(r"<<.*", step.script[:_MOST_OUTPUT], re.DOTALL)
    return "\n".join([*_texts(step), *documents])


def _texts(step: Step) -> list[str]:
    return [value[:_MOST_OUTPUT] for name in _WRITERS if isinstance(value := step.arguments.get(name), str)]


def _past(bare: Path) -> tuple[str, ...]:
    """The commits that the run's own repository held; none where it isn't there any more."""
    if not bare.is_dir():
        return ()
    listed = ["git", "-c", "safe.directory=*", "--git-dir", str(bare), "rev-list", "refs/heads/main"]
    done = subprocess.run(listed, capture_output=True, text=True, check=False)
    return tuple(done.stdout.split())
