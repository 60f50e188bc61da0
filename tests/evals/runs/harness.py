"""Whole evaluation runs: `agent eval` as a process, the bundled set, real sandboxes, the scripted model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.mini.dataset import mini_dataset
from evals.mini.script import script
from evals.report.summary import report_of, without_times
from evals.runs.folder import read_records
from evals.runs.record import AttemptRecord
from evals.runs.rows import row_of
from tests.runs.harness import Place

SECONDS = 240
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
        """The report's file without what differs between two runs of the same."""
        written = json.loads((self.out / "report.json").read_bytes())
        assert written == json.loads(json.dumps(report_of(read_records(self.out), self.manifest())))
        same = without_times(written)
        # What a command took stands in its observation, and `9.98 s` is another number of tokens than `10.02 s`.
        for part in (same["usage"], *same["attempts"]):
            for name in ("prompt_tokens", "cached_tokens", "cached_share"):
                part.pop(name, None)
        return same

    def events(self, instance_id: str, attempt: int = 1) -> list[dict[str, Any]]:
        path = self.out / "trajectories" / instance_id / str(attempt) / "events.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


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
