"""Whole runs: the `agent` command as a process, the scripted server on loopback, real git, a real sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.models.scripted import ScriptedServer
from tests.agent.repos import make_repo

BUGGY = {
    "calc/__init__.py": "",
    "calc/ops.py": 'def mean(values):\n    """The average."""\n    return sum(values) / (len(values) + 1)\n',
    "tests/__init__.py": "",
    "tests/mean_is_right.py": (
        "import unittest\n\nfrom calc.ops import mean\n\n\nclass MeanTest(unittest.TestCase):\n"
        "    def test_mean(self):\n        self.assertEqual(mean([2, 4]), 3)\n"
    ),
    ".gitignore": "__pycache__/\n",
}
"""A package whose mean() is off, with the test that shows it; runs on Python's standard library."""

ISSUE = "mean() is too small\n\nmean([2, 4]) gives 2, and I expect 3."
TESTS = "python3 -m unittest -q tests/mean_is_right.py"


def call(name: str, thinking: str = "Next step.", **arguments: Any) -> dict[str, Any]:
    return {"reasoning": thinking, "content": "", "calls": [{"name": name, "arguments": arguments}]}


def fixing_turns() -> list[dict[str, Any]]:
    """What a model says that solves the issue."""
    return [
        call("bash", "I look around.", command="git log --oneline; cat calc/ops.py"),
        call("bash", "I reproduce it.", command=TESTS),
        call(
            "str_replace_editor",
            "The divisor is off by one.",
            command="str_replace",
            path="calc/ops.py",
            old_str="(len(values) + 1)",
            new_str="len(values)",
        ),
        call("bash", "Again.", command=TESTS),
        call("submit", "Done.", summary="mean() divided by one too many."),
        call("submit", "The diff is right.", summary="mean() divided by one too many."),
    ]


FIX = "-    return sum(values) / (len(values) + 1)\n+    return sum(values) / len(values)\n"


class Served:
    """A scripted server in a thread of its own."""

    def __init__(self, script: Any, **options: Any) -> None:
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, args=(script, options), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    def _serve(self, script: Any, options: dict[str, Any]) -> None:
        async def serve() -> None:
            async with ScriptedServer(script, **options) as self.server:
                self.url = self.server.url
                self._ready.set()
                await self._stop.wait()

        self._loop.run_until_complete(serve())
        self._loop.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


@contextmanager
def served(turns: list[Any] | dict[str, Any], **options: Any) -> Iterator[Served]:
    server = Served(turns, **options)
    try:
        yield server
    finally:
        server.close()


@dataclass(frozen=True)
class Finished:
    """A process that ended."""

    code: int
    out: str
    err: str
    events: list[dict[str, Any]] = field(default_factory=list)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events if event["type"] == kind]


@dataclass(frozen=True)
class Place:
    """A folder for one test: a repository, a home for runs, and the command."""

    folder: Path
    sandbox: str = "none"

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    def make_repo(self, files: Mapping[str, str | bytes] = BUGGY) -> Path:
        return make_repo(self.repo, dict(files))

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PATCHWRIGHT_", "GITHUB_"))}
        if cache := os.environ.get("PATCHWRIGHT_CACHE"):
            kept["PATCHWRIGHT_CACHE"] = cache
        return {**kept, "PATCHWRIGHT_HOME": str(self.folder / "home"), **more}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(**more),
        )

    def agent(self, *arguments: str, **more: str) -> Finished:
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=240)
        lines = [line for line in out.splitlines() if line.startswith('{"seq"')]
        return Finished(process.returncode, out, err, [json.loads(line) for line in lines])

    def fix_arguments(self, model: str, *more: str) -> list[str]:
        return ["fix", str(self.repo), ISSUE, "--model", model, "--sandbox", self.sandbox, "--json", *more]

    def fix(self, model: str, *more: str, **environment: str) -> Finished:
        return self.agent(*self.fix_arguments(model, *more), **environment)

    @property
    def run_folder(self) -> Path:
        (folder,) = (self.folder / "home" / "runs").iterdir()
        return folder

    def patch(self) -> str:
        return (self.run_folder / "patch.diff").read_text()
