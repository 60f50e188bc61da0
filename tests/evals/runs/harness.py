"""Whole evaluation runs: `agent eval` as a process, the bundled set, real sandboxes, the scripted model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from evals.mini.dataset import mini_dataset
from evals.mini.script import script
from evals.report.summary import report_of, without_times
from evals.runs.folder import read_records
from evals.runs.record import AttemptRecord
from evals.runs.rows import row_of
from tests.runs.harness import Place

SECONDS = 240
LONGEST = 600  # for many attempts, on a machine that is busy with others
_DURATION: Final = re.compile(r"(?<![\d.:])(\d+)\.\d+ ?s\b")
"""As commands' ends and pytest say it: `[exit status 0, 0.35 s]`, `3 passed in 0.02s`."""
LIGHT = ("mini__tally-7",)
"""A task that needs nothing but Python."""


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Evaluation:
    """One run in a folder of a test."""

    folder: Path
    sandbox: str = "none"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def place(self) -> Place:
        return Place(self.folder)

    def arguments(self, *more: str, dataset: str = "mini", model: str = "scripted") -> list[str]:
        given = ["run", dataset, "--model", model, "--sandbox", self.sandbox, "--out", str(self.out)]
        return [*given, "--workers", "2", "--retry-wait", "0.1", *more]

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """`agent eval ...` in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", "eval", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.place.environment(**more),
            start_new_session=True,
        )

    def listen(self, *arguments: str, **more: str) -> Listening:
        """`start`, with its events read."""
        return Listening(self.start(*arguments, "--json", **more))

    def agent(self, *arguments: str, **more: str) -> Finished:
        process = self.start(*arguments, **more)
        try:
            out, err = process.communicate(timeout=SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return Finished(process.returncode, out, err)

    def run(self, *more: str, dataset: str = "mini", model: str = "scripted", **environment: str) -> Finished:
        return self.agent(*self.arguments(*more, dataset=dataset, model=model), **environment)

    def records(self) -> dict[tuple[str, int], AttemptRecord]:
        return {(record.instance_id, record.attempt): record for record in read_records(self.out)}

    def manifest(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.out / "manifest.json").read_bytes())
        return data

    def report(self) -> dict[str, Any]:
        """The report's file without what differs between two runs of the same: `without_times`, and tokens counted as
        if no command had taken ten seconds (`digits_of_durations`)."""
        records, manifest = read_records(self.out), self.manifest()
        written = json.loads((self.out / "report.json").read_bytes())
        assert written == json.loads(json.dumps(report_of(records, manifest)))
        counted = [self._without_digits(record) for record in records]
        same: dict[str, Any] = json.loads(json.dumps(without_times(report_of(counted, manifest))))
        return same

    def _without_digits(self, record: AttemptRecord) -> AttemptRecord:
        """The record with tokens of prompts counted without the digits of long durations, each of which is a token."""
        predicted = record.predicted
        if predicted is None or not predicted.trajectory:
            return record
        prompts = cached = digits = digits_before = 0
        for event in self.events(record.instance_id, record.attempt):
            if event["type"] == "turn":
                prompts += digits
                cached += digits_before if event["data"]["usage"]["cached"] else 0
                digits_before = digits  # the cache knows the prompt up to the turn before
            elif event["type"] == "observation":
                digits += digits_of_durations(event["data"]["text"])
        usage = predicted.usage
        usage = replace(usage, prompt_tokens=usage.prompt_tokens - prompts, cached_tokens=usage.cached_tokens - cached)
        return replace(record, predicted=replace(predicted, usage=usage))

    def conversation(self, instance_id: str, attempt: int = 1) -> list[Any]:
        """What the model said and was told, without durations."""
        said: list[Any] = []
        for event in self.events(instance_id, attempt):
            data = event["data"]
            if event["type"] == "turn":
                said.append([data["reasoning"], data["content"], data["calls"]])
            elif event["type"] == "observation":
                said.append(_DURATION.sub("T s", data["text"]))
        return said

    def events(self, instance_id: str, attempt: int = 1) -> list[dict[str, Any]]:
        path = self.out / "trajectories" / instance_id / str(attempt) / "events.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


def digits_of_durations(text: str) -> int:
    """Digits that durations in a text have before the point, beyond one each."""
    return sum(len(found[1]) - 1 for found in _DURATION.finditer(text))


class Listening:
    """`agent eval ... --json` whose events are read as they come, so that no pipe is ever full."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._said = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # the last one may be cut off
                with self._said:
                    self.events.append(json.loads(line))
                    self._said.notify_all()

    def heard(self, event: str, **wanted: Any) -> list[dict[str, Any]]:
        """Events of that name with these fields."""
        found = [one for one in self.events if one["event"] == event]
        return [one for one in found if all(one.get(name) == value for name, value in wanted.items())]

    def wait_for(self, event: str, count: int = 1, **wanted: Any) -> dict[str, Any]:
        """The last event of `count` such."""
        with self._said:
            assert self._said.wait_for(lambda: len(self.heard(event, **wanted)) >= count, SECONDS), self.events
            return self.heard(event, **wanted)[count - 1]

    def kill(self) -> None:
        """kill -9 of the process that runs now (not of its children)."""
        assert self.process.poll() is None, f"ended before it could be killed: {self.events[-3:]}"
        self.process.kill()
        self._over()

    def stop(self) -> None:
        """As a person stops it; nothing happens when it has ended."""
        if self.process.poll() is None:
            self.process.terminate()
        self._over()

    def end(self, seconds: float = LONGEST) -> int:
        """The exit code, once it has ended by itself."""
        try:
            self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        self._over()
        return self.process.returncode

    def _over(self) -> None:
        self.process.wait(60)
        self._thread.join(10)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def judged(heard: Iterable[Listening]) -> Counter[tuple[str, int]]:
    """How often the judging of each attempt was begun in these processes."""
    begun = [event for one in heard for event in one.heard("judge") if "try" not in event]
    return Counter((event["instance_id"], event["attempt"]) for event in begun)


def chosen(*ids: str) -> list[str]:
    return [word for one in ids for word in ("--instance", one)]


def dataset(path: Path, *ids: str, change: Callable[[dict[str, Any]], Mapping[str, Any]] = dict) -> str:
    """A file with rows of the bundled set, changed."""
    rows = [change(row_of(one)) for one in mini_dataset().instances if not ids or one.instance_id in ids]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def killed_when(process: subprocess.Popen[str], due: Callable[[], bool]) -> None:
    """kill -9 of the process (not of its children, as a machine's reaper does it) as soon as `due` says so."""
    deadline = time.monotonic() + SECONDS
    while not due():
        assert process.poll() is None, f"ended before it could be killed: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()


def scripted(path: Path, title: str = "", *, delay: float = 0.0, **fault: Any) -> str:
    """The bundled set's script in a file: `delay` seconds before every token, and a fault in the second turn of the
    task with this title."""
    said = script() | {"token_delay": delay}
    for conversation in said["conversations"]:
        if title and conversation["match"] == title:
            conversation["turns"][1]["faults"] = [fault]
    path.write_text(json.dumps(said))
    return f"script:{path}"
